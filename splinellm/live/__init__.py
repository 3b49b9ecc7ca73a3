"""A user's own model, watched while it reads and writes."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from splinellm.live.conditions import DropoutWarning
    from splinellm.live.guard import Guard
    from splinellm.live.padding import PaddingWarning
    from splinellm.live.recorder import LiveRecorder, attach

# Loaded on first use: a guard needs scikit-learn, a recorder does not.
_HOME = {
    "DropoutWarning": "splinellm.live.conditions",
    "Guard": "splinellm.live.guard",
    "LiveRecorder": "splinellm.live.recorder",
    "PaddingWarning": "splinellm.live.padding",
    "attach": "splinellm.live.recorder",
}

__all__ = ["DropoutWarning", "Guard", "LiveRecorder", "PaddingWarning", "attach"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'splinellm.live' has no attribute '{name}'")
