"""``/v1/features``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from service.schemas.common import Answer, Features, Input, Layers, ModelName, OwnRequest, Usage

Granularity = Literal["prompt", "prefix", "token"]


class FeaturesRequest(OwnRequest):
    """Features of prompts."""

    input: Input
    model: ModelName = None
    layers: Layers = None
    features: Features = None
    granularity: Annotated[
        Granularity,
        Field(
            description="What a row stands for; so far only a whole prompt.",
            json_schema_extra={"enum": ["prompt"]},
        ),
    ] = "prompt"
    overflow: Annotated[
        Literal["error", "truncate"],
        Field(description="Refuse or cut a text beyond `max_input_tokens`; rows tell if cut."),
    ] = "truncate"


class FeaturesRow(Answer):
    """Features of one input."""

    index: int
    n_tokens: int = Field(description="Tokens that were read.")
    truncated: bool
    values: list[list[float]] = Field(description="A list per layer, a number per feature.")


class FeaturesAnswer(Answer):
    """Rows in the order of the inputs."""

    object: Literal["list"]
    model: str
    layers: list[int]
    feature_names: list[str] = Field(description="Of each layer.")
    fingerprint: str = Field(description="Equal for numbers that may be compared.")
    data: list[FeaturesRow]
    usage: Usage
