"""The geometry of requests while vLLM serves them, out of the forward pass that is done anyway.

vLLM is imported only by what needs it, and by nothing before it is used; transformers is not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from splinellm.vllm.recorder import VLLMRecorder, attach_vllm
    from splinellm.vllm.worker import WorkerExtension

_HOME = {
    "VLLMRecorder": "splinellm.vllm.recorder",
    "WorkerExtension": "splinellm.vllm.worker",
    "attach_vllm": "splinellm.vllm.recorder",
}

__all__ = ["VLLMRecorder", "WorkerExtension", "attach_vllm"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'splinellm.vllm' has no attribute '{name}'")
