"""Hear what happens to a generation outside of the forward pass.

Between two forward passes, `generate` decides which rows are done, beam search reorders the rows of
the cache, and assisted generation takes tokens out of it again. None of that reaches the model, so
the methods that do it are overlaid on the two objects, for as long as they are watched.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial, wraps
from types import MethodType
from typing import Any, Protocol

from torch import Tensor, nn
from transformers import Cache, GenerationMixin, StoppingCriteriaList


class GenerationListener(Protocol):
    """Is told of a call of ``generate``."""

    def on_start(self) -> None:
        """It has begun."""

    def on_decision(self, is_done: Tensor) -> None:
        """A token was chosen for every row, and these rows (B,) are done."""

    def on_end(self) -> None:
        """It has returned, or failed."""


def follow_generate(model: nn.Module, listener: GenerationListener) -> ExitStack:
    """Tell `listener` whenever a model inside `model` generates; ends when closed."""

    class Criteria(StoppingCriteriaList):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            is_done = super().__call__(*args, **kwargs)
            listener.on_decision(is_done)
            return is_done

    def generate(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        listener.on_start()
        try:
            return original(*args, **kwargs)
        finally:
            listener.on_end()

    def criteria(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Criteria:
        return Criteria(original(*args, **kwargs))

    with ExitStack() as stack:
        for module in model.modules():
            if isinstance(module, GenerationMixin):
                stack.callback(_overlay(module, "generate", generate))
                stack.callback(_overlay(module, "_get_stopping_criteria", criteria))
        return stack.pop_all()


class CacheFollower:
    """Hears what is done to one key-value cache at a time, by others than the model.

    Parameters
    ----------
    on_rows : callable
        Takes for every row (B,) of the cache the row that it was before.
    on_cut : callable
        Takes the number of columns that were taken out at the end.
    """

    def __init__(self, on_rows: Callable[[Tensor], None], on_cut: Callable[[int], None]) -> None:
        self._on_rows = on_rows
        self._on_cut = on_cut
        self._cache: Cache | None = None
        self._overlays = ExitStack()

    def follows(self, cache: Cache) -> bool:
        """Whether it is this very cache, and not a copy."""
        return cache is self._cache

    def follow(self, cache: Cache) -> None:
        """Follow this cache and no other."""
        if self.follows(cache):
            return
        self.release()
        for name, tell in {
            "reorder_cache": self._on_rows,
            "batch_select_indices": self._on_rows,
            "crop": lambda n_columns: self._on_cut(abs(n_columns)),
        }.items():
            self._overlays.callback(_overlay(cache, name, partial(_then, tell)))
        self._cache = cache

    def release(self) -> None:
        """Follow nothing."""
        self._overlays.close()
        self._cache = None


def _then(tell: Callable[..., None], original: Any, change: Any) -> None:
    original(change)
    tell(change)


def _overlay(owner: Any, name: str, around: Callable[..., Any]) -> Callable[[], object]:
    """Let `around`, which is given the original method, take its place; returns what ends that."""
    own = vars(owner)
    before = {name: own[name]} if name in own else {}
    method = getattr(type(owner), name)

    @wraps(method)
    def overlay(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self is not owner:
            return MethodType(method, self)(*args, **kwargs)
        return around(before.get(name) or MethodType(method, self), *args, **kwargs)

    # A bound method, and no closure: a deep copy of the owner then has one bound to the copy,
    # which nobody listens to.
    own[name] = MethodType(overlay, owner)

    def restore() -> None:
        own.pop(name, None)
        own.update(before)

    return restore
