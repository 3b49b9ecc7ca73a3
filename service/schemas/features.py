"""``/v1/features``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from service.schemas.common import (
    Answer,
    CountOf,
    Features,
    Layers,
    ModelName,
    OwnInput,
    OwnRequest,
    Usage,
)
from splinellm.schema import Granularity

MAX_TOKEN_ROWS = 4096
"""Rows of an answer whose rows stand for prefixes or tokens."""
MAX_TOKEN_NUMBERS = 8_388_608
"""Numbers in all of them: a request may ask for thousands of sign blocks in every layer."""


class FeaturesRequest(OwnRequest):
    """Features of prompts, of all their prefixes, or of all their tokens."""

    input: OwnInput
    model: ModelName = None
    layers: Layers = None
    features: Features = None
    granularity: Annotated[
        Granularity,
        Field(
            description="What a row stands for: `prompt`, a whole input; `prefix`, an input up to "
            "and including each of its tokens; `token`, each token by itself. Of the last two a "
            f"request may have {MAX_TOKEN_ROWS} tokens in all and {MAX_TOKEN_NUMBERS} numbers in "
            "its answer; beyond that it gets 413 `batch_too_large`."
        ),
    ] = "prompt"
    count: CountOf = "all"
    overflow: Annotated[
        Literal["error", "truncate"],
        Field(description="Refuse or cut a text beyond `max_input_tokens`; rows tell if cut."),
    ] = "truncate"


class FeaturesRow(Answer):
    """Features of one input."""

    index: int = Field(description="The input, from 0.")
    n_tokens: int = Field(description="Tokens that were read.")
    truncated: bool
    values: list[list[float]] = Field(description="A list per layer, a number per feature.")


class TokenFeaturesRow(Answer):
    """Features of one token of an input, or of the input up to and including it."""

    index: int = Field(description="The input, from 0.")
    position: int = Field(description="The token, from 0; of a prefix its last.")
    token: str = Field(
        description="Its text. Tokens that share a character, as the bytes of an emoji do, all "
        "have it."
    )
    begin: int | None = Field(
        description="Where it begins in the text, in code points; null for token ids."
    )
    end: int | None = Field(description="Where it ends.")
    role: str | None = Field(
        default=None, description="Of a conversation: who says it; null for the template's own."
    )
    message: int | None = Field(
        default=None, description="Of a conversation: which message says it, from 0."
    )
    n_tokens: int = Field(
        description="`prefix`: tokens of the prefix; `token`: tokens of the input that were read."
    )
    truncated: bool = Field(description="Whether the end of the input was not read.")
    values: list[list[float]] = Field(description="A list per layer, a number per feature.")


class FeaturesAnswer(Answer):
    """Rows in the order of the inputs and of their tokens."""

    object: Literal["list"]
    model: str
    layers: list[int]
    feature_names: list[str] = Field(
        description="Of each layer. A token has `sign_fraction` and `hyperplane_distance` where a "
        "prompt has their statistics."
    )
    fingerprint: str = Field(description="Equal for numbers that may be compared.")
    data: Annotated[
        list[FeaturesRow] | list[TokenFeaturesRow],
        Field(description="The latter with `granularity` `prefix` or `token`."),
    ]
    usage: Usage
