"""The batching engine: one thread owns a model. No HTTP, no asyncio in here."""

from service.engine.contracts import (
    REJECTIONS,
    BatchReport,
    EngineLimits,
    EngineListener,
    Outcome,
    SilentListener,
    Timing,
)
from service.engine.errors import (
    BatchTooLargeError,
    InferenceError,
    PromptTooLongError,
    QueueFullError,
    ShuttingDownError,
)
from service.engine.worker import Engine
from splinellm.plan import Plan

__all__ = [
    "REJECTIONS",
    "BatchReport",
    "BatchTooLargeError",
    "Engine",
    "EngineLimits",
    "EngineListener",
    "InferenceError",
    "Outcome",
    "Plan",
    "PromptTooLongError",
    "QueueFullError",
    "ShuttingDownError",
    "SilentListener",
    "Timing",
]
