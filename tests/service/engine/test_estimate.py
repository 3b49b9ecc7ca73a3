from __future__ import annotations

import pytest

from service.engine.estimate import Speed


def test_nothing_is_known_at_first() -> None:
    assert Speed().seconds(10_000) == 0.0


def test_full_batches_outweigh_small_ones() -> None:
    """Whose fixed costs would otherwise make the queue of a quiet service look endless."""
    speed = Speed()
    for _ in range(100):
        speed.add(10, 0.1)
    speed.add(1000, 1.0)
    assert speed.seconds(1000) == pytest.approx(1.0, rel=0.05)


def test_a_slower_machine_is_noticed() -> None:
    speed = Speed()
    for _ in range(50):
        speed.add(100, 0.1)
    for _ in range(50):
        speed.add(100, 1.0)
    assert speed.seconds(100) == pytest.approx(1.0, rel=0.1)
