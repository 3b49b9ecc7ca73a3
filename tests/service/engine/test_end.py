"""However an engine ends, everybody is answered."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.engine import Outcome, QueueFullError, ShuttingDownError
from tests.service.engine.harness import (
    OTHER_PLAN,
    PLAN,
    Rig,
    check_answer,
    expected,
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


def test_a_dead_thread_answers_everybody(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(max_batch_tokens=8)
    deadly = rig.engine.submit(PLAN, prompts("DIE", "mate"))
    waiting = [rig.engine.submit(plan, prompts(text_of(8))) for plan in (PLAN, OTHER_PLAN)]
    rig.engine.start()
    for future in (deadly, *waiting):
        with pytest.raises(ShuttingDownError):
            future.result(30)
    rig.engine.stop(30)
    assert not rig.engine.alive
    with pytest.raises(ShuttingDownError):
        rig.engine.submit(PLAN, prompts("late"))
    assert "SystemExit" in caplog.text


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
