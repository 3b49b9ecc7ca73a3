"""A tokenizer that knows what it was asked for."""

from __future__ import annotations

from typing import Any

from splinellm.backbone.loading import Backbone


class CountedTokenizer:
    """Another tokenizer, and the texts of every batch that it was given."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.texts: list[str] = []

    def __call__(self, texts: str | list[str], **options: Any) -> Any:
        if not isinstance(texts, str):  # single strings are probes
            self.texts += texts
        return self._tokenizer(texts, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


def counted(backbone: Backbone) -> tuple[Backbone, CountedTokenizer]:
    """The same model with a tokenizer that counts."""
    tokenizer = CountedTokenizer(backbone.tokenizer)
    spec, sha256 = backbone.spec, backbone.weights_sha256
    return Backbone(backbone.model, tokenizer, spec, weights_sha256=sha256), tokenizer
