"""``/v1/models`` and ``/v1/classifiers``."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from service.schemas.common import Answer


class Limits(Answer):
    """What a request may ask for."""

    max_input_tokens: int
    max_input_chars: int
    max_client_batch_size: int


class ModelAnswer(Answer):
    """A loaded model: OpenAI's four keys, and what its numbers are."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    n_layers: int
    n_vocabulary: int
    encoder: bool = Field(description="Whether tokens see what comes after them, too.")
    feature_names: list[str] = Field(description="Of each layer, in the default selection.")
    dtype: str
    fingerprint: str = Field(description="Of the default selection.")
    limits: Limits


class ModelsAnswer(Answer):
    """The loaded models, the default first."""

    object: Literal["list"]
    data: list[ModelAnswer]


class ClassifierAnswer(Answer):
    """A loaded classifier, from its card."""

    id: str
    object: Literal["classifier"]
    model: str
    kind: Literal["binary", "multiclass", "multilabel"]
    classes: list[str]
    thresholds: dict[str, float]
    max_tokens: int = Field(description="Longer texts are read in overlapping windows of these.")
    spans: bool = Field(description="Whether it says where in a text a class is.")
    cascade: list[str] | None = Field(
        description="Who reads what it is uncertain of, one after the other, itself first."
    )
    layers: list[int]
    feature_names: list[str] = Field(
        description="Of each layer; all of its sign blocks are one name, such as `blocks:1536`."
    )
    metrics: dict[str, Any]
    weaknesses: list[str]
    data: dict[str, Any] = Field(description="Name, size and hash of the training data.")
    settings: dict[str, Any]
    provenance: dict[str, Any]


class ClassifiersAnswer(Answer):
    """The loaded classifiers, the default first."""

    object: Literal["list"]
    data: list[ClassifierAnswer]
