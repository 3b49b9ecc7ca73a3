"""``comments:analyze``, in the format of the Perspective API."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from service.schemas.common import Answer, ForeignRequest


class Comment(ForeignRequest):
    """What to judge."""

    text: Annotated[str, Field(title="Text", min_length=1)]
    type: Annotated[
        Literal["PLAIN_TEXT", "HTML", "TEXT_TYPE_UNSPECIFIED"] | None,
        Field(description="`HTML` is stripped to its text; spans refer to the original."),
    ] = None


class AttributeOptions(ForeignRequest):
    """How to judge it."""

    score_type: Annotated[
        Literal["PROBABILITY", "SCORE_TYPE_UNSPECIFIED"] | None, Field(alias="scoreType")
    ] = None
    score_threshold: Annotated[
        float | None,
        Field(alias="scoreThreshold", ge=0, le=1, description="Leave out scores below it."),
    ] = None


class AnalyzeRequest(ForeignRequest):
    """A comment and the attributes that are wanted of it."""

    comment: Comment
    requested_attributes: Annotated[
        dict[str, AttributeOptions],
        Field(
            alias="requestedAttributes",
            min_length=1,
            max_length=64,
            description="TOXICITY, SEVERE_TOXICITY, IDENTITY_ATTACK, INSULT, PROFANITY and "
            "THREAT can be scored, and what the server maps. Others are named in "
            "`unscoredAttributes`, or refused, as the server is set up.",
        ),
    ]
    languages: Annotated[
        list[str] | None,
        Field(
            max_length=32,
            description="If English is not among them, nothing is scored, or the request is "
            "refused, as the server is set up.",
        ),
    ] = None
    span_annotations: Annotated[
        bool | None, Field(alias="spanAnnotations", description="Score parts of the text, too.")
    ] = None
    do_not_store: Annotated[
        bool | None, Field(alias="doNotStore", description="Nothing is ever stored.")
    ] = None
    client_token: Annotated[
        str | None, Field(alias="clientToken", max_length=1024, description="Comes back.")
    ] = None


class Score(Answer):
    """A probability."""

    value: float
    type: Literal["PROBABILITY"]


class SpanScore(Answer):
    """Score of the part of the text from `begin` to before `end`, in Unicode code points."""

    begin: int
    end: int
    score: Score


class AttributeScores(Answer):
    """Scores of one attribute."""

    model_config = ConfigDict(extra="forbid")
    spanScores: list[SpanScore]  # noqa: N815 - the wire's name
    summaryScore: Score  # noqa: N815
    decidedBy: str | None = None  # noqa: N815


class AnalyzeAnswer(Answer):
    """Scores by attribute; those below their threshold are left out."""

    attributeScores: dict[str, AttributeScores]  # noqa: N815
    languages: list[str] = Field(
        description="Those that the request names and that are scored; none if it names none, "
        "since the text's language is not looked at."
    )
    unscoredLanguages: list[str] | None = Field(  # noqa: N815
        default=None, description="Those that the request names and that nothing scores."
    )
    unscoredAttributes: list[str] | None = Field(  # noqa: N815
        default=None,
        description="Those that the request names and that nothing scores, at most 64 printable "
        "characters of each.",
    )
    clientToken: str | None = None  # noqa: N815
