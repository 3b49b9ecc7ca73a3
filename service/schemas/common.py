"""What several APIs share: inputs, layers, features, usage."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from splinellm.conversations import ROLES, Count
from splinellm.schema import FEATURE_PATTERN, KNOWN_FEATURES

TEXT = "Text"
TOKEN_IDS = "Token ids"  # noqa: S105
TOKEN_ID = "Token id"  # noqa: S105 - a title
BATCH = "Batch"
OPENAI_BATCH = "Batch in one of OpenAI's formats"
MODERATED_TEXT = "Text to be moderated"
LAYER = "Layer"
MODEL = "Model"
CLASSIFIER = "Classifier"
SPANS = "Spans wanted"
THRESHOLD = "Threshold"
"""Titles by which :mod:`service.schemas.document` finds the places of limits."""

_TEXT_SCHEMA: dict[str, Any] = {"title": TEXT, "type": "string", "minLength": 1}
_IDS_SCHEMA: dict[str, Any] = {
    "title": TOKEN_IDS,
    "type": "array",
    "minItems": 1,
    "items": {"title": TOKEN_ID, "type": "integer", "minimum": 0},
}


def _schema_of_input(batch: str) -> dict[str, Any]:
    return {
        "title": "Input",
        "description": "A text, a list of texts, the token ids of one text, or a list of "
        "such. Texts are valid Unicode: no lone surrogates.",
        "anyOf": [
            _TEXT_SCHEMA,
            _batch_of(_TEXT_SCHEMA, batch),
            _IDS_SCHEMA,
            _batch_of(_IDS_SCHEMA, batch),
        ],
        "examples": [["The capital of France is Paris.", "You are an idiot."]],
    }


_CHAT_SCHEMA: dict[str, Any] = {
    "title": "Conversation",
    "type": "object",
    "required": ["messages"],
    "additionalProperties": False,
    "properties": {
        "messages": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["role", "content"],
                "properties": {
                    "role": {"enum": list(ROLES)},
                    "content": {
                        "anyOf": [
                            _TEXT_SCHEMA,
                            {
                                "type": "array",
                                "minItems": 1,
                                "items": {
                                    "type": "object",
                                    "required": ["type", "text"],
                                    "properties": {"type": {"const": "text"}, "text": _TEXT_SCHEMA},
                                },
                            },
                        ]
                    },
                },
            },
        }
    },
}


def _batch_of(item: dict[str, Any], title: str = BATCH) -> dict[str, Any]:
    return {"title": title, "type": "array", "minItems": 1, "items": item}


OpenAIInput = Annotated[
    Any,  # read by service.inputs, off the event loop: it may be a million numbers
    WithJsonSchema(_schema_of_input(OPENAI_BATCH)),
]
"""One prompt or several, as text or as token ids."""

OwnInput = Annotated[
    Any,  # as above
    WithJsonSchema(
        {
            "title": "Input of texts or conversations",
            "description": "A text, a conversation, the token ids of one text, or a list of such. "
            "Texts are valid Unicode: no lone surrogates.",
            "anyOf": [
                _TEXT_SCHEMA,
                _batch_of({"anyOf": [_TEXT_SCHEMA, _CHAT_SCHEMA]}),
                _IDS_SCHEMA,
                _batch_of(_IDS_SCHEMA),
                _CHAT_SCHEMA,
            ],
            "examples": [["The capital of France is Paris.", "You are an idiot."]],
        }
    ),
]
"""The same, with conversations."""

OneInput = Annotated[
    Any,  # as above
    WithJsonSchema(
        {
            "title": "One input",
            "description": "A text, a conversation, or the token ids of one text. Texts are valid "
            "Unicode: no lone surrogates.",
            "anyOf": [_TEXT_SCHEMA, _IDS_SCHEMA, _CHAT_SCHEMA],
            "examples": ["You are an idiot."],
        }
    ),
]
"""One prompt."""

CountOf = Annotated[
    Count,
    Field(
        description="Tokens of a conversation that the statistics are over: `all`, what the "
        "messages say (`content`), what the `user`, the `assistant` or the `system` says, or what "
        "the `last` message says. The model reads all of it."
    ),
]

_LAYER_SCHEMA: dict[str, Any] = {"title": LAYER, "type": "integer"}
_LAYER_LIST = r"^(all|[0-9]{1,3}(-[0-9]{1,3})?(,[0-9]{1,3}(-[0-9]{1,3})?)*)$"


def _whole(value: Any) -> Any:
    """JSON has one kind of number: 3.0 is as whole as 3."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_whole)]
_Short = Annotated[str, Field(max_length=4096)]

Layers = Annotated[
    Whole | _Short | Annotated[list[Whole], Field(max_length=1000)] | None,
    WithJsonSchema(
        {
            "title": "Layers",
            "description": "Layers counted from 0, as numbers (negative ones from the last) or "
            "like `0-2,29`; all by default.",
            "anyOf": [
                _LAYER_SCHEMA,
                {"type": "string", "maxLength": 4096, "pattern": _LAYER_LIST},
                {"type": "array", "minItems": 1, "maxItems": 1000, "items": _LAYER_SCHEMA},
                {"type": "null"},
            ],
            "examples": ["0-2"],
        }
    ),
]

Features = Annotated[
    _Short | Annotated[list[_Short], Field(max_length=1000)] | None,
    WithJsonSchema(
        {
            "title": "Features",
            "description": "In a list or separated by commas, `paper` by default: "
            + ", ".join(f"`{name}`" for name in KNOWN_FEATURES)
            + ".",
            "anyOf": [
                {
                    "type": "string",
                    "maxLength": 4096,
                    "pattern": f"^{FEATURE_PATTERN}(,{FEATURE_PATTERN})*$",
                },
                {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": 1000,
                    "items": {"type": "string", "pattern": f"^{FEATURE_PATTERN}$"},
                },
                {"type": "null"},
            ],
            "examples": ["paper"],
        }
    ),
]

ModelName = Annotated[
    str | None,
    Field(title=MODEL, description="A model of `GET /v1/models`; the first by default."),
]
ClassifierName = Annotated[
    str | None,
    Field(
        title=CLASSIFIER, description="A classifier of `GET /v1/classifiers`; the first by default."
    ),
]
Overflow = Annotated[
    Literal["error", "truncate", "window"] | None,
    Field(
        description="What to do with a text beyond `max_input_tokens`: refuse it, cut it, or read "
        "all of it in windows. The server's setting by default."
    ),
]


class OwnRequest(BaseModel):
    """A request of this service's own APIs: a misspelt field is an error, not a default."""

    model_config = ConfigDict(strict=True, extra="forbid", protected_namespaces=())


class ForeignRequest(BaseModel):
    """A request in another service's format, whose clients send fields that mean nothing here."""

    model_config = ConfigDict(strict=True, extra="ignore", protected_namespaces=())


class Answer(BaseModel):
    """Part of an answer."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class Usage(Answer):
    """Tokens that were read, those of overlapping windows once."""

    prompt_tokens: int
    total_tokens: int
