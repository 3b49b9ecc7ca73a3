"""Calls of a module as this library's hooks see them, in a forward pass and out of it.

While a watched module answers in a forward pass, that call is known here; a module that is asked
for an answer meanwhile gives it to who asks, and not to who watches the pass.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from splinellm.backbone.hooks import Hook

_LISTENERS = "transformers.utils.output_capturing"


@dataclass(frozen=True)
class Seen:
    """A call of a module in the forward pass that is running.

    Parameters
    ----------
    args, kwargs
        What it was given.
    output : Tensor
        What it answered, as far as hooks up to ours have left it.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Tensor

    @property
    def input(self) -> Tensor:
        """What the map is applied to, shape (..., D)."""
        given: Tensor = next(iter((*self.args, *self.kwargs.values())))
        return given

    @torch.no_grad()
    def is_changed(self, module: nn.Module) -> bool:
        """Whether hooks of others make the answer another one than `forward` gives."""
        if not others_hooks(module):
            return False
        last = self.args[0].detach().flatten(0, -2)[-1:]
        plain = module.forward(last, **self.kwargs).float()
        found = self.output.detach().flatten(0, -2)[-1:].float()
        slack = 1e-3 * float(plain.abs().nan_to_num().amax())
        return not torch.allclose(plain, found, rtol=0, atol=slack, equal_nan=True)


class _Calls(threading.local):
    """Of this thread: others may run the same modules at the same time."""

    def __init__(self) -> None:
        self.seen: dict[nn.Module, Seen | list[Tensor]] = {}


# Only during a call: what our hooks see of a module, or the answers that it is being asked for.
_calls = _Calls()


class OwnHook(Hook, ABC):
    """Base of the hooks by which this library sees a module's answer."""

    def __init__(self) -> None:
        super().__init__(self._on_answer)

    def _on_answer(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor
    ) -> None:
        """Show the answer of a forward pass; keep that to a question out of it."""
        if isinstance(answers := _calls.seen.get(module), list):
            answers.append(output.detach().clone())
            return
        _calls.seen[module] = seen = Seen(args, kwargs, output)
        try:
            self.see(seen)
        finally:
            del _calls.seen[module]

    @abstractmethod
    def see(self, seen: Seen) -> None:
        """Use the answer."""


def seen_call(module: nn.Module) -> Seen | None:
    """The call that the module has just answered in a forward pass that is being watched."""
    seen = _calls.seen.get(module)
    return seen if isinstance(seen, Seen) else None


def ask_aside(module: nn.Module, inputs: Tensor) -> Tensor:
    """Ask a module that is in a call for another answer: hooks run as in the pass, which goes on.

    Later hooks than ours run, but what they do is not looked at.
    """
    answers: list[Tensor] = []
    previous = _calls.seen[module]
    _calls.seen[module] = answers
    try:
        module(inputs)
    finally:
        _calls.seen[module] = previous
    return answers[0]


def others_hooks(module: nn.Module) -> list[int]:
    """Hooks around a module's forward that are not this library's, by identity.

    transformers' own, which it leaves where it was once asked for hidden states, only listen.
    """
    own = vars(module)
    return [
        id(hook)
        for kind in ("_forward_pre_hooks", "_forward_hooks")
        for hook in own.get(kind, {}).values()
        if not isinstance(hook, Hook) and getattr(hook, "__module__", None) != _LISTENERS
    ]
