"""What watching a model could leave behind on it."""

from __future__ import annotations

from typing import Any

from torch import nn

from splinellm.backbone import attention


def state_of(model: nn.Module) -> tuple[Any, ...]:
    """Everything that a recorder could leave behind."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    hooks = [
        (name, kind, list(getattr(module, kind)))
        for name, module in model.named_modules()
        for kind in kinds
        if getattr(module, kind)
    ]
    forwards = ["forward" in vars(module) for module in model.modules()]
    listeners = len(attention._listeners)
    return hooks, forwards, listeners, model.config._attn_implementation, model.training
