"""Engines over the fake model, and what they are given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from service.engine import BatchReport, Engine, EngineLimits, Plan, SilentListener
from splinellm.extraction.tokens import TokenizedPrompt
from splinellm.schema import FeatureSelection
from splinellm.table import FeatureTable
from tests.service.fakes import FakeBackbone, FakeExtractor, token_of

PLAN = Plan((0, 2), FeatureSelection.parse("paper"), 256)
OTHER_PLAN = Plan((0,), FeatureSelection.parse("blocks"), 256)


def prompts(*texts: str, truncated: bool = False) -> list[TokenizedPrompt]:
    return [TokenizedPrompt([token_of(w) for w in text.split()], truncated) for text in texts]


def text_of(n_tokens: int, name: str = "word") -> str:
    """A text of so many tokens, like no other of another name."""
    return " ".join(f"{name}-{i}" for i in range(n_tokens))


def expected(*texts: str, plan: Plan = PLAN) -> FeatureTable:
    extractor = FakeExtractor(FakeBackbone(), **plan.settings())
    return extractor.table([prompt.ids for prompt in prompts(*texts)])


class Recorder(SilentListener):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.reports: list[BatchReport] = []
        self.events: list[tuple[str, object]] = []

    def batch_done(self, engine: str, report: BatchReport) -> None:
        self.reports.append(report)

    def batch_retried(self, engine: str, inputs: int) -> None:
        self.events.append(("retried", inputs))

    def dropped(self, engine: str, inputs: int) -> None:
        self.events.append(("dropped", inputs))

    def rejected(self, engine: str, reason: str, inputs: int) -> None:
        self.events.append(("rejected", reason))

    def stopped(self, engine: str, unanswered: int) -> None:
        self.events.append(("stopped", unanswered))


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Rig:
    """An engine over a fake model, not started."""

    def __init__(
        self,
        *,
        memory_tokens: int | None = None,
        batch_wait_s: float = 0.0,
        clock: Callable[[], float] | None = None,
        **limits: Any,
    ) -> None:
        self.backbone = FakeBackbone(memory_tokens=memory_tokens)
        self.heard = Recorder()
        self.extractors: dict[Plan, FakeExtractor] = {}
        self.engine = Engine(
            "fake",
            self.extractor,
            EngineLimits(batch_wait_s=batch_wait_s, **limits),
            self.heard,
            **({} if clock is None else {"clock": clock}),
        )

    def extractor(self, plan: Plan) -> FakeExtractor:
        if plan not in self.extractors:
            self.extractors[plan] = FakeExtractor(self.backbone, **plan.settings())
        return self.extractors[plan]

    @property
    def batches(self) -> list[list[int]]:
        """Lengths of the prompts of every batch so far."""
        return [[len(ids) for ids in batch] for batch in self.backbone.seen]


@contextmanager
def running(**settings: Any) -> Iterator[Rig]:
    """A started engine, stopped at the end."""
    rig = Rig(**settings)
    rig.engine.start()
    try:
        yield rig
    finally:
        rig.backbone.gate.open()
        assert rig.engine.stop(30)
