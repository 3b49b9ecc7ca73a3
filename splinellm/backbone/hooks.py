"""Hooks that stay with the module that they were put on.

A copy of a watched model, as an average of weights or an experiment needs one, takes the hooks of
the original along. Nobody watches the copy, so there they do nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Hook:
    """A hook of this library; what is copied or pickled instead of it does nothing.

    Parameters
    ----------
    function : callable
        What PyTorch calls.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self._function(*args, **kwargs)

    def __reduce__(self) -> tuple[type[Hook], tuple[Callable[..., Any]]]:
        return Hook, (_idle,)


def _idle(*_args: Any, **_kwargs: Any) -> None:
    """Do nothing."""
