"""What the queue takes, and what it says to the rest."""

from __future__ import annotations

from concurrent.futures import CancelledError, wait

import pytest

from service.engine import (
    BatchTooLargeError,
    PromptTooLongError,
    QueueFullError,
)
from splinellm.errors import SplineLLMError
from tests.service.engine.harness import (
    PLAN,
    Clock,
    Rig,
    check_answer,
    expected,
    prompts,
    running,
    text_of,
)


@pytest.mark.parametrize(
    ("limits", "waiting", "reason"),
    [
        ({"max_queue_inputs": 3}, ["a", "b"], "inputs"),
        ({"max_queue_tokens": 9}, [text_of(8)], "tokens"),
    ],
)
def test_a_full_queue_takes_all_of_a_request_or_nothing(
    limits: dict[str, int], waiting: list[str], reason: str
) -> None:
    rig = Rig(**limits)
    first = rig.engine.submit(PLAN, prompts(*waiting))
    before = (rig.engine.queued_inputs, rig.engine.queued_tokens)
    with pytest.raises(QueueFullError) as refused:
        rig.engine.submit(PLAN, prompts("x", "y"))
    assert refused.value.retry_after_s == 1
    assert (rig.engine.queued_inputs, rig.engine.queued_tokens) == before
    assert rig.heard.events == [("rejected", reason)]
    last = rig.engine.submit(PLAN, prompts("x"))  # which fits exactly
    rig.engine.start()
    check_answer(first.result(30), expected(*waiting))
    check_answer(last.result(30), expected("x"))
    assert (rig.engine.queued_inputs, rig.engine.queued_tokens) == (0, 0)
    rig.engine.stop(30)


@pytest.mark.parametrize(
    ("texts", "error", "reason"),
    [
        (["a", text_of(11)], PromptTooLongError, "too_long"),
        ([text_of(6), text_of(6)], BatchTooLargeError, "too_many"),
        (["a", "b", "c", "d"], BatchTooLargeError, "too_many"),
    ],
)
def test_what_never_fits_is_refused_even_by_an_empty_queue(
    texts: list[str], error: type[SplineLLMError], reason: str
) -> None:
    """Not as a full queue: clients would try again for ever."""
    rig = Rig(max_queue_tokens=10, max_queue_inputs=3)
    with pytest.raises(error) as refused:
        rig.engine.submit(PLAN, prompts(*texts))
    if isinstance(refused.value, PromptTooLongError):
        assert refused.value.index == 1
    assert rig.heard.events == [("rejected", reason)]
    rig.engine.stop(0)


def test_too_long_a_wait_is_a_full_queue() -> None:
    """One second a token: ten tokens are all that ten seconds can take."""
    clock = Clock()
    rig = Rig(clock=clock, max_wait_s=10)
    rig.engine._speed.add(100, 100.0)
    rig.engine.submit(PLAN, prompts(text_of(10)))
    rig.engine.submit(PLAN, prompts("the wait is exactly ten seconds"))
    with pytest.raises(QueueFullError) as refused:
        rig.engine.submit(PLAN, prompts("too late"))
    assert refused.value.retry_after_s == 16
    assert rig.heard.events == [("rejected", "wait")]
    rig.engine._speed.add(100, 100_000.0)
    with pytest.raises(QueueFullError) as refused:
        rig.engine.submit(PLAN, prompts("too late"))
    assert refused.value.retry_after_s == 60
    rig.engine.stop(0)


def test_an_idle_engine_takes_what_it_is_slow_at() -> None:
    """Or a slow start would be a full queue that nothing ever empties."""
    rig = Rig(max_wait_s=1)
    rig.engine._speed.add(1, 1000.0)
    future = rig.engine.submit(PLAN, prompts(text_of(50)))
    rig.engine.start()
    future.result(30)
    rig.engine.stop(30)


def test_an_empty_queue_takes_a_prompt_however_slow_the_batch_at_work() -> None:
    with running(max_wait_s=1) as rig:
        rig.engine._speed.add(1, 1000.0)
        future = rig.engine.submit(PLAN, prompts("BLOCK"))
        rig.backbone.gate.wait_until_entered()
        rig.engine.submit(PLAN, prompts("the next"))
        with pytest.raises(QueueFullError):
            rig.engine.submit(PLAN, prompts("the one after that"))
        rig.backbone.gate.open()
        future.result(30)


def test_the_batch_at_work_is_part_of_the_wait() -> None:
    with running() as rig:
        rig.engine._speed.add(100, 100.0)
        future = rig.engine.submit(PLAN, prompts("BLOCK and so on"))
        rig.backbone.gate.wait_until_entered()
        assert rig.engine.queued_tokens == 0
        assert rig.engine.estimated_wait_s() == pytest.approx(4)
        rig.backbone.gate.open()
        future.result(30)
    assert rig.engine.estimated_wait_s() == 0


def test_a_cancelled_request_is_not_computed_and_leaves_its_place() -> None:
    with running(max_queue_inputs=2) as rig:
        blocking = rig.engine.submit(PLAN, prompts("BLOCK"))
        rig.backbone.gate.wait_until_entered()
        gone = rig.engine.submit(PLAN, prompts("gone", "as well"))
        assert gone.cancel()
        assert rig.engine.queued_inputs == 0
        kept = rig.engine.submit(PLAN, prompts("kept", "too"))
        rig.backbone.gate.open()
        check_answer(kept.result(30), expected("kept", "too"))
        blocking.result(30)
        assert wait([gone], timeout=30).done
    assert rig.batches == [[1], [1, 1]]
    assert rig.heard.events == [("dropped", 2), ("stopped", 0)]


def test_a_request_can_be_cancelled_while_it_is_computed() -> None:
    """Its mates of the same batch are none the worse, and its other prompts are dropped."""
    rig = Rig(max_batch_tokens=10)
    mate = rig.engine.submit(PLAN, prompts("BLOCK"))
    gone = rig.engine.submit(PLAN, prompts("in the batch", text_of(10)))
    rig.engine.start()
    rig.backbone.gate.wait_until_entered()
    assert gone.cancel()
    rig.backbone.gate.open()
    check_answer(mate.result(30), expected("BLOCK"))
    with pytest.raises(CancelledError):
        gone.result(0)
    rig.engine.stop(30)
    assert rig.batches == [[1, 3]]
    assert rig.heard.events == [("dropped", 1), ("stopped", 0)]
