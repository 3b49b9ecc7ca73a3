"""``/v1/classify``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from service.schemas.common import Answer, ClassifierName, Overflow, OwnInput, OwnRequest, Usage
from splinellm.conversations import Count


class ClassifyRequest(OwnRequest):
    """What a classifier says of prompts."""

    input: OwnInput
    classifier: ClassifierName = None
    count: Annotated[
        Count | None,
        Field(description="That of the classifier, which refuses any other."),
    ] = None
    overflow: Overflow = None
    stream: Annotated[
        bool,
        Field(
            description="The inputs grow and are sent again, whole, as often as wanted: windows of "
            "a long one stay where they are, so that only what is new is read. The last window "
            "then may be shorter than the others, and its verdict another than without."
        ),
    ] = False


class ClassifyRow(Answer):
    """Verdict on one input."""

    index: int
    label: str | None = Field(
        description="The class; null where several labels may hold, see `labels`."
    )
    labels: list[str] = Field(description="The class, or every label that holds.")
    probabilities: dict[str, float]
    n_tokens: int = Field(description="Tokens that were read.")
    truncated: bool
    windows: int = Field(description="Overlapping parts that the text was read in.")


class ClassifyAnswer(Answer):
    """Verdicts in the order of the inputs."""

    object: Literal["list"]
    classifier: str
    model: str
    classes: list[str]
    thresholds: dict[str, float]
    data: list[ClassifyRow]
    usage: Usage
