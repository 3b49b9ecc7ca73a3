"""Conditions of a forward pass under which its numbers are not those of the model at rest."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import nn

from splinellm.errors import PrecisionWarning


class DropoutWarning(UserWarning):
    """The model is in training mode, and its dropout makes the features random."""


class Conditions:
    """What the passes that a text was read in were like.

    Parameters
    ----------
    model : Module
        That reads.
    dtype : callable
        Gives that of its weights, by name: a model may be converted between two texts.
    wants_distance : bool
        Whether there is a feature that needs float32.
    """

    def __init__(self, model: nn.Module, dtype: Callable[[], str], *, wants_distance: bool) -> None:
        self._model = model
        self._dtype = dtype
        self._weights = self._computed = dtype()
        self._wants_distance = wants_distance
        self._has_warned = {"dropout": False, "precision": False}

    @property
    def dtype(self) -> str:
        """Dtype that was computed in: under ``torch.autocast``, not that of the weights."""
        return self._computed

    def begin(self, device: torch.device, *, anew: bool) -> None:
        """Look at a pass before it runs; `anew` if it begins a text."""
        if anew:
            self._weights = self._computed = self._dtype()
        if torch.is_autocast_enabled(device.type):
            self._narrow({torch.get_autocast_dtype(device.type)})
        if not self._has_warned["dropout"] and (rate := _dropout(self._model)):
            self._has_warned["dropout"] = True
            warnings.warn(
                f"the model is in training mode with a dropout of {rate:g}: what is recorded is "
                "random (model.eval() makes it the text's)",
                DropoutWarning,
                stacklevel=2,
            )

    def end(self, dtypes: set[torch.dtype]) -> None:
        """Look at the dtypes of its pre-activations."""
        self._narrow(dtypes)
        is_worse = self._computed != self._weights and self._wants_distance
        if is_worse and not self._has_warned["precision"]:
            self._has_warned["precision"] = True
            warnings.warn(
                f"the forward pass computes in {self._computed}, though the weights are "
                f"{self._weights}: hyperplane distances, and complexity of radii below 0.05, are "
                "rounding noise (switch autocast off, or ask for features without them)",
                PrecisionWarning,
                stacklevel=2,
            )

    def _narrow(self, dtypes: set[torch.dtype]) -> None:
        half = [dtype for dtype in dtypes if dtype.itemsize == 2]
        if self._weights == "float32" and half:
            self._computed = str(half[0]).removeprefix("torch.")


def _dropout(model: nn.Module) -> float:
    """Largest rate of a dropout that is at work in a model."""
    if not model.training:
        return 0.0
    names = ("p", "attention_dropout", "dropout", "activation_dropout", "dropout_prob")
    rates = (
        getattr(part, name, 0.0) for part in model.modules() if part.training for name in names
    )
    return max((rate for rate in rates if isinstance(rate, float)), default=0.0)
