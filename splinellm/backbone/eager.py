"""Let compiled code run as it is written while a model is watched.

What was compiled before there were hooks does not call them. PyTorch's stance ``force_eager``
passes over whatever is compiled, modules and functions alike, and is one for all threads: the
first that needs it sets it, the last that leaves gives back what was there before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import Any

import torch
from torch import nn

from splinellm.errors import ConfigurationError

_lock = Lock()
_n_inside = 0
_stance = ExitStack()


@contextmanager
def run_eagerly(model: nn.Module) -> Iterator[None]:
    """Run a model, and all that is compiled around it, without compiled code.

    Parameters
    ----------
    model : Module
        Outermost module. Parts of it that were compiled with ``.compile()`` stay eager even if
        somebody sets another stance meanwhile.

    Raises
    ------
    ConfigurationError
        Compiled code is running already.
    """
    compiled = {part: call for part in model.modules() if (call := _compiled_call(part))}
    _enter()
    try:
        for part in compiled:
            part._compiled_call_impl = None  # noqa: SLF001 - PyTorch has no public switch
        yield
    finally:
        for part, call in compiled.items():
            if _compiled_call(part) is None:  # unless it was compiled anew
                part._compiled_call_impl = call  # noqa: SLF001
        _leave()


def has_compiled_parts(model: nn.Module) -> bool:
    """Whether `model` or a part of it, or a part's ``forward``, is compiled."""
    for part in parts_of(model):
        own = part.__dict__
        if own.get("_compiled_call_impl") is not None:
            return True
        if "forward" in own and hasattr(own["forward"], "_torchdynamo_orig_callable"):
            return True
    return False


def parts_of(model: nn.Module) -> list[nn.Module]:
    """All modules of a model, each once, in an eighth of the time of ``modules()``."""
    seen = {model}
    found = [model]
    for part in found:  # which grows meanwhile
        if children := part.__dict__["_modules"]:
            for child in children.values():
                if child is not None and child not in seen:
                    seen.add(child)
                    found.append(child)
    return found


def _compiled_call(part: nn.Module) -> Callable[..., Any] | None:
    call: Callable[..., Any] | None = vars(part).get("_compiled_call_impl")
    return call


def _enter() -> None:
    global _n_inside
    with _lock:
        if _n_inside == 0:
            try:
                _stance.enter_context(torch.compiler.set_stance("force_eager"))
            except RuntimeError as error:
                raise ConfigurationError(
                    "a model cannot be watched from inside of compiled code",
                    hint="enter the block outside of the compiled function",
                ) from error
        _n_inside += 1


def _leave() -> None:
    global _n_inside
    with _lock:
        _n_inside -= 1
        if _n_inside == 0:
            _stance.close()
