"""Whether a model is still the one that it was: by what its numbers are found again.

Weights are trained, edited and moved, adapters are switched and hooks put on, while tables and
caches remember a model by a hash. So a model is looked at whenever it reads. Of one that was
loaded here a *glance* has to do, of less than a millisecond: which modules, parameters and hooks
there are, and the addresses and version counters of weights. It shows all but what is written
through ``.data``. Weights that accelerate keeps in memory are looked at there, those on disk by
their files' time. A model that somebody else holds, because it was given or has been changed once,
is looked at in full: all settings (see :func:`splinellm.backbone.norms.state_of`), and one pass
over the weights.
"""

from __future__ import annotations

import uuid
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from splinellm.backbone.calls import others_hooks
from splinellm.backbone.eager import parts_of
from splinellm.backbone.fingerprint import adapters_of, state_sha256
from splinellm.backbone.norms import state_of
from splinellm.backbone.offloaded import kept_weight

_WIDTH = 1021
"""Words of eight bytes that are folded over each other: a prime, so that moved rows are seen."""


class Identity:
    """What a model's numbers are kept under.

    Parameters
    ----------
    model : Module
        A base model.
    sha256 : str, optional
        Hash of the files that it was loaded from; without it the model was given, and its hash is
        that of the weights in memory.

    Attributes
    ----------
    sha256 : str
        Hash of the weights, as of the last look.
    """

    def __init__(self, model: nn.Module, sha256: str | None = None) -> None:
        self._model = model
        self._is_held = sha256 is None
        self.sha256 = sha256 or state_sha256(model)
        with evaluating(model):
            self._settings = _settings(model)
        self._words = _words(model)
        self.settle()
        has_hooks = any(others_hooks(module) for module in model.modules())
        self._first = self._settings, uuid.uuid4().hex if has_hooks else ""
        self._mark = self._first[1]

    @property
    def key(self) -> str:
        """What rows may be kept under, as of the last look.

        The hash, and something that no other process has where the settings are not those of the
        beginning, or where others had hooks from the beginning: what those do, no hash tells.
        """
        return self.sha256 + self._mark

    def settle(self) -> None:
        """Take where the weights are now, to which they were moved, as where they belong."""
        self._glance = _glance(self._model)

    def look(self) -> None:
        """See whether the model is another one now; by its owner, while no forward pass runs."""
        glance = _glance(self._model)
        if not self._is_held and glance is not None and glance == self._glance:
            return
        self._glance, self._is_held = glance, True
        with evaluating(self._model):
            settings = _settings(self._model)
        words = _words(self._model)
        is_other = settings is None or settings != self._settings
        if is_other:
            first, mark = self._first
            self._mark = mark if settings == first is not None else uuid.uuid4().hex
        if words != self._words or (is_other and adapters_of(self._model)):
            self.sha256 = state_sha256(self._model)
        self._settings, self._words = settings, words


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put all of a model into evaluation mode for a while: dropout makes numbers random."""
    training = [module for module in parts_of(model) if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _glance(model: nn.Module) -> list[int] | None:
    """What a change of weights moves, at the least cost; None if it cannot be told."""
    found: list[int] = []
    waiting = [model]
    try:
        for module in waiting:  # which grows meanwhile
            own = module.__dict__
            found += id(module), len(own)
            if parts := own["_modules"]:  # most have none
                waiting += [part for part in parts.values() if part is not None]
            for name, weight in own["_parameters"].items():
                if weight is not None and weight.is_meta:
                    weight = kept_weight(module, name)
                if isinstance(weight, Tensor):
                    version = 0 if weight.is_inference() else weight._version  # noqa: SLF001
                    found += weight.data_ptr(), version
            if own["_forward_hooks"] or own["_forward_pre_hooks"]:
                found += others_hooks(module)
    except (RuntimeError, NotImplementedError):
        return None  # sharded, or of a kind without addresses
    return found


def _settings(model: nn.Module) -> Hashable:
    state = state_of(model)
    return None if state is None else state[0]


@torch.no_grad()
def _words(model: nn.Module) -> tuple[bytes, ...]:
    """Bits of every weight, folded: a tenth of the cost of a hash."""
    found = []
    for place, weight in model.named_parameters():
        if weight.is_meta:
            owner, _, name = place.rpartition(".")
            kept = kept_weight(model.get_submodule(owner), name)
            found.append(_folded(kept) if isinstance(kept, Tensor) else _stamp(kept))
        else:
            found.append(_folded(weight))
    return tuple(found)


def _stamp(file: Path | None) -> bytes:
    """When a file was written last, and its size: to read it is a forward pass' own cost."""
    try:
        told = None if file is None else file.stat()
    except OSError:
        return b""  # whoever needs the weight says so
    return b"" if told is None else f"{told.st_mtime_ns} {told.st_size}".encode()


def _folded(weight: Tensor) -> bytes:
    if type(weight.data) is not Tensor or weight.is_meta or weight.is_quantized:
        return b""  # packed or sharded: nothing to look at here
    flat = weight.detach().contiguous().flatten().view(torch.uint8)
    end = len(flat) // (8 * _WIDTH) * (8 * _WIDTH)
    rest = flat[end:].cpu().numpy().tobytes()
    rows = flat[:end].view(torch.int64).view(-1, _WIDTH)
    folded: np.ndarray
    # Whole numbers that wrap around: their sum is the same in any order, on any device.
    if weight.device.type == "cpu":
        folded = np.add.reduce(rows.numpy(), axis=0)  # five times faster than torch's
    else:
        folded = rows.sum(dim=0).cpu().numpy()
    return folded.tobytes() + rest
