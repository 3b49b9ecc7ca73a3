"""Models that the user has loaded already."""

from __future__ import annotations

from typing import Any

from torch import nn

from splinellm.backbone.loading import Backbone
from splinellm.backbone.no_tokenizer import NoTokenizer
from splinellm.errors import ConfigurationError

IN_MEMORY = "in memory"
"""Name of a model whose configuration has none."""


def backbone_of(model: object, tokenizer: Any = None) -> Backbone:
    """Make a backbone of a transformers model and its tokenizer, or give one as it is.

    Parameters
    ----------
    model : Backbone or Module
        As ``AutoModelForCausalLM.from_pretrained`` gives it, with whatever is around it. It is put
        into evaluation mode, and stays where it is, in its dtype.
    tokenizer : PreTrainedTokenizerBase, optional
        The model's own, a fast one; without, only token ids can be read.

    Raises
    ------
    ConfigurationError
        One of the two is something else.
    UnsupportedArchitectureError
        The model is of another architecture.
    """
    if isinstance(model, Backbone):
        if tokenizer is not None and tokenizer is not model.tokenizer:
            raise ConfigurationError("a Backbone has its own tokenizer; give no other")
        return model
    if not isinstance(model, nn.Module):
        shown = f"'{str(model)[:80]}'" if isinstance(model, str) else f"a {type(model).__name__}"
        raise ConfigurationError(
            f"{shown} is no model in memory",
            hint="SplineExtractor.from_pretrained takes names, folders and files",
        )
    if tokenizer is None:
        tokenizer = NoTokenizer()
    if not getattr(tokenizer, "is_fast", False):
        raise ConfigurationError(
            f"a {type(tokenizer).__name__} is no fast tokenizer",
            hint="use AutoTokenizer.from_pretrained, of a model with a tokenizer.json",
        )
    config = getattr(model, "config", None)
    return Backbone(model, tokenizer, str(getattr(config, "_name_or_path", "")) or IN_MEMORY)  # type: ignore[arg-type]  # wrappers stand for the model inside
