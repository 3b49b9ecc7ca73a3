"""``/v1/tokenize``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from service.schemas.common import Answer, ModelName, OwnInput, OwnRequest, Usage


class TokenizeRequest(OwnRequest):
    """Token ids of texts."""

    input: OwnInput
    model: ModelName = None


class TokenizeRow(Answer):
    """Tokens of one input."""

    index: int
    n_tokens: int = Field(description="Of the whole text.")
    truncated: bool = Field(description="Whether it is beyond `max_input_tokens`.")
    ids: list[int]
    offsets: list[tuple[int, int]] | None = Field(
        description="Begin and end of every token in the text, in Unicode code points; null where "
        "token ids were given. Tokens that share a character share its offsets."
    )


class TokenizeAnswer(Answer):
    """Rows in the order of the inputs."""

    object: Literal["list"]
    model: str
    max_input_tokens: int = Field(description="The setting, or the model's positions if fewer.")
    data: list[TokenizeRow]
    usage: Usage
