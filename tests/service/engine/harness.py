"""Engines over the fake model, and what they are given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from service.engine import BatchReport, Engine, EngineLimits, Outcome, Plan, SilentListener
from splinellm.extraction.rows import Rows
from splinellm.extraction.tokens import TokenizedPrompt
from splinellm.schema import FeatureSelection
from tests.service.fakes import FakeBackbone, FakeExtractor, token_of

PLAN = Plan((0, 2), FeatureSelection.parse("paper"), 256)
OTHER_PLAN = Plan((0,), FeatureSelection.parse("blocks"), 256)
PREFIX_PLAN = replace(PLAN, granularity="prefix")
TOKEN_PLAN = replace(PLAN, granularity="token")


def prompts(*texts: str, truncated: bool = False) -> list[TokenizedPrompt]:
    return [TokenizedPrompt([token_of(w) for w in text.split()], truncated) for text in texts]


def text_of(n_tokens: int, name: str = "word") -> str:
    """A text of so many tokens, like no other of another name."""
    return " ".join(f"{name}-{i}" for i in range(n_tokens))


def expected(*texts: str, plan: Plan = PLAN) -> dict[int, Rows]:
    return expected_at(dict(enumerate(texts)), plan)


def expected_at(texts: Mapping[int, str], plan: Plan) -> dict[int, Rows]:
    """What should be answered of texts that have these places in their request."""
    extractor = FakeExtractor(FakeBackbone(), **plan.settings())
    return {
        place: extractor.rows(prompts(text)[0].ids, plan.granularity)
        for place, text in texts.items()
    }


def check_answer(found: Outcome, expected: Mapping[int, Rows]) -> None:
    """Every prompt has its own rows, in order."""
    assert list(found.rows) == list(expected)
    for place, rows in expected.items():
        assert found.rows[place].dtype == np.float32
        np.testing.assert_array_equal(found.rows[place], rows)


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

    def restarted(self, engine: str) -> None:
        self.events.append(("restarted", engine))

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
        plan = replace(plan, granularity="prompt")
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
