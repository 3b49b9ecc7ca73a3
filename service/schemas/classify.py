"""``/v1/classify``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from service.schemas.common import (
    CLASSIFIER,
    SPANS,
    THRESHOLD,
    Answer,
    Overflow,
    OwnInput,
    OwnRequest,
    Usage,
)
from splinellm.conversations import Count

Probability = Annotated[float, Field(ge=0, le=1)]


class ClassifyRequest(OwnRequest):
    """What a classifier says of prompts."""

    input: OwnInput
    classifier: Annotated[
        str | Annotated[list[str], Field(min_length=1, max_length=64)] | None,
        Field(
            title=CLASSIFIER,
            description="A classifier of `GET /v1/classifiers`; the first by default. Or several, "
            "whose verdicts are then by their names: those of one model share a forward pass.",
        ),
    ] = None
    threshold: Annotated[
        Probability | dict[str, Probability] | None,
        Field(
            title=THRESHOLD,
            description="From which probability on a class is said to be there, in place of the "
            "card's: for all classes, or by class. Of exclusive classes the most probable is "
            "chosen, without one; `thresholds` of the answer says what was in force.",
        ),
    ] = None
    count: Annotated[
        Count | None,
        Field(
            description="That of the classifier, which refuses any other; of one that pools "
            "windows, whose texts are then what is said."
        ),
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

    spans: Annotated[
        bool | Literal["available"],
        Field(
            title=SPANS,
            description="Whether to say where in each text a class is. Classifiers with `spans` in "
            "`GET /v1/classifiers` can; for the others it is an error, `spans_unavailable`. "
            "`available` is none: verdicts of the others are without.",
        ),
    ] = False


class StreamRequest(ClassifyRequest):
    """The first line of a body of lines: the fields, and what the text begins with."""

    input: OwnInput = ""
    stream: Literal[True] = True


class Span(Answer):
    """A part of a text that a class was found in."""

    begin: int = Field(description="First character, in code points of the text as it was given.")
    end: int = Field(description="One after the last.")
    label: str
    score: float = Field(description="The highest probability in it.")


class ClassifyVerdict(Answer):
    """What a classifier says of one input."""

    label: str | None = Field(
        description="The class; null where several labels may hold, see `labels`, and where the "
        "decision is left to a person."
    )
    labels: list[str] = Field(description="The class, or every label that holds.")
    probabilities: dict[str, float]
    n_tokens: int = Field(description="Tokens that were read.")
    truncated: bool
    windows: int = Field(description="Overlapping parts that the text was read in.")
    spans: list[Span] = Field(
        default=[],
        description="Where its classes are; only if the request asks for them, and of "
        "classifiers that tell.",
    )
    decided_by: str | None = Field(
        default=None,
        description="Of a cascade alone: the classifier whose verdict this is, or `person`: all "
        "were uncertain, and nobody has decided. Probabilities are then the last classifier's.",
    )


class ClassifyRow(ClassifyVerdict):
    """Verdict on one input."""

    index: int


class Judged(Answer):
    """Verdicts of several classifiers on one input."""

    index: int
    verdicts: dict[str, ClassifyVerdict] = Field(description="By name of the classifier.")


class SeveralAnswer(Answer):
    """Verdicts of several classifiers, in the order of the inputs."""

    object: Literal["list"]
    classifiers: list[str]
    models: dict[str, str] = Field(description="By name of the classifier, and so the next two.")
    classes: dict[str, list[str]]
    thresholds: dict[str, dict[str, float]]
    data: list[Judged]
    usage: Usage


class ClassifyAnswer(Answer):
    """Verdicts in the order of the inputs."""

    object: Literal["list"]
    classifier: str
    model: str
    classes: list[str]
    thresholds: dict[str, float]
    data: list[ClassifyRow]
    usage: Usage
