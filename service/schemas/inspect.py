"""``/v1/inspect``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from service.schemas.classify import Span
from service.schemas.common import Answer, Features, Layers, ModelName, OneInput, OwnRequest, Usage


class InspectRequest(OwnRequest):
    """Everything that is known of one input."""

    input: OneInput
    model: ModelName = None
    layers: Layers = None
    features: Features = None
    classifiers: Annotated[
        list[str] | None,
        Field(max_length=32, description="Whose verdicts are wanted; all that are loaded if null."),
    ] = None


class InspectedToken(Answer):
    """One token, with its own features."""

    position: int
    token: str
    begin: int | None = Field(description="In code points; null where it is nowhere in the text.")
    end: int | None
    role: str | None = Field(default=None, description="Of a conversation: who says it.")
    message: int | None = Field(default=None, description="Which message says it, from 0.")
    values: list[list[float]] = Field(description="A list per layer, a number per feature.")


class InspectedVerdict(Answer):
    """What a classifier says of the input, or of one message."""

    classifier: str
    labels: list[str]
    probabilities: dict[str, float]
    thresholds: dict[str, float]
    spans: list[Span] | None = Field(description="Null if the classifier does not tell.")
    message: int | None = Field(
        description="The message that it is of; null where it is of the whole input."
    )
    truncated: bool


class InspectAnswer(Answer):
    """One input, looked at; as ``splinellm inspect --json``."""

    object: Literal["inspection"]
    model: str
    n_tokens: int
    truncated: bool
    layers: list[int]
    feature_names: list[str]
    values: list[list[float]] = Field(description="Of the input: a list per layer.")
    token_feature_names: list[str]
    tokens: list[InspectedToken]
    verdicts: list[InspectedVerdict]
    usage: Usage
