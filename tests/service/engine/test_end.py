"""However an engine ends, everybody is answered."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.engine import InferenceError, Outcome, QueueFullError, ShuttingDownError
from service.engine.health import RETRY_S
from service.errors import NotReadyError
from tests.service.engine.harness import (
    OTHER_PLAN,
    PLAN,
    Clock,
    Rig,
    check_answer,
    expected,
    expected_at,
    prompts,
    running,
    text_of,
)


def test_draining_answers_what_waits_and_refuses_what_comes() -> None:
    with running() as rig, ThreadPoolExecutor(1) as pool:
        blocking = rig.engine.submit(PLAN, prompts("BLOCK"))
        rig.backbone.gate.wait_until_entered()
        waiting = {text: rig.engine.submit(OTHER_PLAN, prompts(text)) for text in "abc"}
        rig.engine.close()
        stopping = pool.submit(rig.engine.stop, 30)
        with pytest.raises(ShuttingDownError):
            rig.engine.submit(PLAN, prompts("late"))
        assert not rig.engine.alive
        rig.backbone.gate.open()
        assert stopping.result(30)
        blocking.result(0)
        for text, future in waiting.items():
            check_answer(future.result(0), expected(text, plan=OTHER_PLAN))
    assert rig.heard.events == [("rejected", "stopping"), ("stopped", 0)]


def test_draining_does_not_wait_for_company() -> None:
    rig = Rig(batch_wait_s=1000)
    futures = [rig.engine.submit(PLAN, prompts(text)) for text in "ab"]
    rig.engine.start()
    assert rig.engine.stop(30)
    for future in futures:
        future.result(0)


def test_at_the_limit_what_is_left_hears_why() -> None:
    """What is being computed, too: nobody knows how long that will take."""
    rig = Rig()
    blocking = rig.engine.submit(PLAN, prompts("BLOCK"))
    rig.engine.start()
    rig.backbone.gate.wait_until_entered()
    waiting = rig.engine.submit(PLAN, prompts("a", "b"))
    assert not rig.engine.stop(0)
    for future in (blocking, waiting):
        with pytest.raises(ShuttingDownError):
            future.result(0)
    rig.backbone.gate.open()  # the answer comes too late, and that is no error
    assert rig.engine.stop(30)
    assert rig.heard.events == [("stopped", 3)]


def test_an_engine_that_never_ran_answers_as_well() -> None:
    rig = Rig()
    future = rig.engine.submit(PLAN, prompts("a"))
    assert not rig.engine.alive
    assert rig.engine.stop(0)
    with pytest.raises(ShuttingDownError):
        future.result(0)


def test_a_thread_that_ends_for_good_answers_everybody(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.engine.health.MAX_DEATHS", 1)
    rig = Rig(max_batch_tokens=8)
    deadly = rig.engine.submit(PLAN, prompts("DIE", "mate"))
    waiting = [rig.engine.submit(plan, prompts(text_of(8))) for plan in (PLAN, OTHER_PLAN)]
    rig.engine.start()
    for future in (deadly, *waiting):
        with pytest.raises(NotReadyError) as told:
            future.result(30)
        assert told.value.retry_after_s
    rig.engine.stop(30)
    assert not rig.engine.alive
    with pytest.raises(NotReadyError, match="has stopped"):
        rig.engine.submit(PLAN, prompts("late"))
    assert "SystemExit" in caplog.text
    assert rig.heard.events == [("stopped", 4), ("rejected", "trouble")]


def test_a_thread_that_ends_is_started_anew() -> None:
    """Whoever was in its batch is answered, by rows of their own but for the one to blame."""
    rig = Rig()
    first = rig.engine.submit(PLAN, prompts("mate one", "DIE", "mate two"))
    other = rig.engine.submit(PLAN, prompts("another request"))
    waiting = rig.engine.submit(OTHER_PLAN, prompts("of another batch"))
    rig.engine.start()
    outcome = first.result(30)
    assert {place: error.code for place, error in outcome.errors.items()} == {1: "inference_failed"}
    check_answer(outcome, expected_at({0: "mate one", 2: "mate two"}, PLAN))
    check_answer(other.result(30), expected("another request"))
    check_answer(waiting.result(30), expected("of another batch", plan=OTHER_PLAN))
    assert rig.engine.alive
    assert rig.heard.events == [("restarted", "fake")] * 2  # with the batch, and alone
    assert rig.engine.stop(30)


def test_a_thread_that_ends_now_and_then_is_always_started_anew() -> None:
    with running() as rig:
        for number in range(10):
            with pytest.raises(InferenceError):
                raise rig.engine.submit(PLAN, prompts("DIE")).result(30).errors[0]
            check_answer(
                rig.engine.submit(PLAN, prompts(f"{number}")).result(30), expected(f"{number}")
            )
        assert rig.engine.alive


def test_a_thread_that_ends_while_it_drains() -> None:
    rig = Rig(max_batch_tokens=1)
    futures = [rig.engine.submit(PLAN, prompts(text)) for text in ("DIE", "a", "b")]
    rig.engine.start()
    assert rig.engine.stop(30)
    assert futures[0].result(0).errors[0].code == "inference_failed"
    for future, text in zip(futures[1:], "ab", strict=True):
        check_answer(future.result(0), expected(text))


def test_a_model_that_fails_on_everything_is_in_trouble_until_it_answers() -> None:
    with running() as rig:
        rig.engine.submit(PLAN, prompts("warm up")).result(30)
        rig.engine.submit(PLAN, prompts("POISON")).result(30)  # the prompt is to blame
        assert rig.engine.trouble is None
        rig.backbone.is_broken = True
        outcome = rig.engine.submit(PLAN, prompts("a", "b")).result(30)
        assert [error.code for error in outcome.errors.values()] == ["inference_failed"] * 2
        while rig.engine.trouble is None:
            pass
        assert rig.engine.alive
        with pytest.raises(NotReadyError, match="fails on every prompt") as told:
            rig.engine.submit(PLAN, prompts("c"))
        assert told.value.retry_after_s == RETRY_S
        rig.backbone.is_broken = False
        with rig.engine._changed:
            rig.engine._changed.notify_all()  # as if the time had come to look again
        while rig.engine.trouble:
            pass
        check_answer(rig.engine.submit(PLAN, prompts("c")).result(30), expected("c"))


def test_a_batch_that_takes_too_long_is_trouble_and_at_last_no_life() -> None:
    clock = Clock()
    rig = Rig(clock=clock, max_wait_s=10)
    blocking = rig.engine.submit(PLAN, prompts("BLOCK"))
    rig.engine.start()
    rig.backbone.gate.wait_until_entered()
    waiting = rig.engine.submit(PLAN, prompts("a"))
    clock.now_s = 10
    assert rig.engine.trouble is None
    clock.now_s = 11
    with pytest.raises(NotReadyError, match="busy with one batch for 11 s"):
        rig.engine.submit(PLAN, prompts("b"))
    assert rig.engine.alive
    clock.now_s = 101
    assert not rig.engine.alive
    rig.backbone.gate.open()
    check_answer(blocking.result(30), expected("BLOCK"))
    check_answer(waiting.result(30), expected("a"))
    assert rig.engine.answers
    assert rig.engine.stop(30)


def test_no_request_is_lost_between_submission_and_the_end() -> None:
    """Threads submit while the engine stops: each is answered or refused, none hangs."""
    rig = Rig(max_queue_inputs=64)
    rig.engine.start()
    begun = threading.Barrier(9)

    def client(number: int) -> int:
        begun.wait()
        answers = 0
        while True:
            try:
                future = rig.engine.submit(PLAN, prompts(f"{number} {answers}"))
                outcome: Outcome = future.result(30)
            except QueueFullError:
                continue
            except ShuttingDownError:
                return answers
            check_answer(outcome, expected(f"{number} {answers}"))
            answers += 1

    with ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(client, number) for number in range(8)]
        begun.wait()
        rig.engine.submit(PLAN, prompts("one more")).result(30)
        assert rig.engine.stop(30)
        for future in clients:
            future.result(30)
    assert ("stopped", 0) in rig.heard.events
