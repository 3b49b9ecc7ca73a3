"""``/v1/moderations``, in OpenAI's format."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, WithJsonSchema

from service.schemas.common import (
    MODERATED_TEXT,
    OPENAI_BATCH,
    Answer,
    ForeignRequest,
    ModelName,
)

_TEXT_SCHEMA = {"title": MODERATED_TEXT, "type": "string", "minLength": 1}

ModerationInput = Annotated[
    Any,
    WithJsonSchema(
        {
            "title": "Moderation input",
            "description": "A text, a list of texts, or a list of content parts, which are one "
            "input. Only parts of the type `text` are read; images are named in "
            "`unscored_parts`, or refused, as the server is set up.",
            "anyOf": [
                _TEXT_SCHEMA,
                {"title": OPENAI_BATCH, "type": "array", "minItems": 1, "items": _TEXT_SCHEMA},
                {
                    "title": "Content parts",
                    "type": "array",
                    "minItems": 1,
                    "maxItems": 32,
                    "items": {
                        "type": "object",
                        "anyOf": [
                            {
                                "required": ["type", "text"],
                                "properties": {"type": {"const": "text"}, "text": _TEXT_SCHEMA},
                            },
                            {
                                "required": ["type", "image_url"],
                                "properties": {
                                    "type": {"const": "image_url"},
                                    "image_url": {"type": "object"},
                                },
                            },
                        ],
                    },
                    "contains": {"properties": {"type": {"const": "text"}}},
                },
            ],
            "examples": ["You are an idiot."],
        }
    ),
]


class ModerationsRequest(ForeignRequest):
    """Judge whether a text is harmful."""

    input: ModerationInput
    model: Annotated[
        ModelName,
        Field(
            title="Moderation model",
            description="A loaded model or classifier, or one of OpenAI's moderation models, "
            "which stand for the default.",
        ),
    ] = None


class UnscoredPart(Answer):
    """A content part that is no text."""

    part: str = Field(description="Where it is, such as `input[1]`.")
    type: str


class ModerationResult(Answer):
    """Verdict on one input: OpenAI's categories, and the labels of the classifiers."""

    flagged: bool
    categories: dict[str, bool]
    category_scores: dict[str, float]
    category_applied_input_types: dict[str, list[str]]
    n_tokens: int
    truncated: bool
    windows: int
    decided_by: str | None = Field(
        default=None,
        description="Of a cascade alone: the classifier that decided on toxicity, or `person`, "
        "whom it is left to: `flagged` is then true.",
    )
    unscored_parts: list[UnscoredPart] = Field(
        description="Parts that no classifier read; the verdict is on the text alone."
    )


class ModerationsAnswer(Answer):
    """Verdicts in the order of the inputs."""

    id: str = Field(pattern="^modr-")
    model: str
    results: list[ModerationResult]
    classifiers: list[str]
    unscored_categories: list[str] = Field(
        description="Categories that no classifier judges: always false, 0.0 and []."
    )
