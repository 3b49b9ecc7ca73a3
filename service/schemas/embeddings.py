"""``/v1/embeddings``, in OpenAI's format."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from service.schemas.common import (
    Answer,
    Features,
    ForeignRequest,
    Layers,
    ModelName,
    OpenAIInput,
    Usage,
    Whole,
)


class EmbeddingsRequest(ForeignRequest):
    """Features of prompts as flat vectors."""

    input: OpenAIInput
    model: ModelName = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Whole | None = Field(
        default=None, ge=1, description="Only the length that the vectors have anyway."
    )
    user: str | None = None
    layers: Layers = None
    features: Features = None
    overflow: Literal["error", "truncate"] = "truncate"


class Embedding(Answer):
    """The vector of one input."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str = Field(
        description="Numbers, or base64 of little-endian float32; layer by layer."
    )


class EmbeddingsAnswer(Answer):
    """Vectors in the order of the inputs."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage
    truncated: list[bool]
    layers: list[int]
    feature_names: list[str] = Field(description="Of each layer.")
    fingerprint: str = Field(description="Equal for vectors that may be compared.")
