"""Everybody gets an answer, and their own."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from service.engine import InferenceError, Outcome, Plan
from splinellm.errors import NonFiniteFeaturesError, OutOfMemoryError, PromptError, SchemaError
from tests.service.engine.harness import (
    OTHER_PLAN,
    PLAN,
    Rig,
    expected,
    prompts,
    running,
    text_of,
)
from tests.tables import check_equal


def test_fifty_threads_get_their_own_rows() -> None:
    """Mixed plans and lengths, some with a poisoned prompt in the middle."""

    def client(number: int) -> tuple[Plan, list[str], Outcome]:
        plan = (PLAN, OTHER_PLAN)[number % 2]
        texts = [text_of(1 + (number * k) % 17, f"{number}-{k}") for k in range(1 + number % 4)]
        if number % 10 == 0:
            texts[0] += " POISON"
        return plan, texts, rig.engine.submit(plan, prompts(*texts)).result(30)

    with running(batch_wait_s=0.001) as rig, ThreadPoolExecutor(50) as pool:
        results = list(pool.map(client, range(50)))
    for number, (plan, texts, outcome) in enumerate(results):
        poisoned = number % 10 == 0
        assert list(outcome.errors) == ([0] if poisoned else [])
        check_equal(outcome.table, expected(*texts[poisoned:], plan=plan))


def test_a_poisoned_prompt_fails_alone(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    mate = rig.engine.submit(PLAN, prompts("a good one"))
    bad = rig.engine.submit(PLAN, prompts("fine", "this is POISON here", "fine as well"))
    with caplog.at_level(logging.DEBUG):
        rig.engine.start()
        outcome = bad.result(30)
    check_equal(mate.result(30).table, expected("a good one"))
    check_equal(outcome.table, expected("fine", "fine as well"))
    assert isinstance(outcome.errors[1], InferenceError)
    # The fake's exception quotes the text, as those of libraries may.
    assert "POISON" not in str(outcome.errors[1])
    assert "POISON" not in caplog.text
    assert "RuntimeError" in caplog.text
    # The batch once, then each prompt once, and that was all.
    assert list(map(len, rig.batches)) == [4, 1, 1, 1, 1]
    assert rig.heard.events == [("retried", 4)]
    assert rig.heard.reports[0].error_codes == ("inference_failed",)
    rig.engine.stop(30)


def test_what_fails_in_company_only_is_answered() -> None:
    with running() as rig:
        texts = ["GRUMPY old text", "another"]
        outcome = rig.engine.submit(PLAN, prompts(*texts)).result(30)
    assert not outcome.errors
    check_equal(outcome.table, expected(*texts))


def test_errors_of_single_prompts_name_their_place_in_their_own_request() -> None:
    """Two requests share a prompt, which is computed once and fails; they share no error."""
    rig = Rig()
    futures = [
        rig.engine.submit(PLAN, prompts("a", "NAN b", "HUGE")),
        rig.engine.submit(PLAN, prompts("NAN b")),
    ]
    rig.engine.start()
    first, second = (future.result(30).errors for future in futures)
    rig.engine.stop(30)
    assert len(rig.batches) == 1
    assert {k: type(error) for k, error in first.items()} == {
        1: NonFiniteFeaturesError,
        2: OutOfMemoryError,
    }
    assert [error.index for error in first.values() if isinstance(error, PromptError)] == [1, 2]
    assert [error.index for error in second.values() if isinstance(error, PromptError)] == [0]


def test_a_request_of_errors_only_has_an_empty_table() -> None:
    with running() as rig:
        outcome = rig.engine.submit(PLAN, prompts("NAN", "POISON")).result(30)
    assert list(outcome.errors) == [0, 1]
    check_equal(outcome.table, expected())


def test_a_request_may_be_larger_than_a_batch() -> None:
    texts = [text_of(length) for length in (30, 1, 20, 64, 7, 30, 2)]
    with running() as rig:
        outcome = rig.engine.submit(PLAN, prompts(*texts)).result(30)
    check_equal(outcome.table, expected(*texts))
    assert len(rig.batches) > 2


def test_whether_a_prompt_was_cut_is_what_the_prompt_says() -> None:
    with running() as rig:
        cut, whole = prompts("a b", truncated=True), prompts("a b c")
        outcome = rig.engine.submit(PLAN, [*cut, *whole]).result(30)
    np.testing.assert_array_equal(outcome.table.truncated, [True, False])


def test_equal_prompts_are_computed_once_but_each_is_answered() -> None:
    rig = Rig()
    futures = [rig.engine.submit(PLAN, prompts("same text", f"own {i}")) for i in range(3)]
    rig.engine.start()
    for i, future in enumerate(futures):
        check_equal(future.result(30).table, expected("same text", f"own {i}"))
    rig.engine.stop(30)
    assert rig.batches == [[2, 2, 2, 2]]
    report = rig.heard.reports[0]
    assert (report.inputs, report.distinct_inputs, report.padded_tokens) == (6, 4, 8)


def test_a_plan_that_no_extractor_can_do_fails_its_requests_alone() -> None:
    rig = Rig()
    real = rig.engine._extractor_of

    def extractor_of(plan: Plan) -> object:
        if plan == OTHER_PLAN:
            raise SchemaError("impossible")
        return real(plan)

    rig.engine._extractor_of = extractor_of  # type: ignore[assignment]
    rig.engine.start()
    with pytest.raises(SchemaError, match="impossible"):
        rig.engine.submit(OTHER_PLAN, prompts("a", "b")).result(30)
    check_equal(rig.engine.submit(PLAN, prompts("a")).result(30).table, expected("a"))
    rig.engine.stop(30)


def test_a_table_with_too_few_rows_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the reason: nobody may get the row of another."""
    rig = Rig()
    extractor = rig.extractor(PLAN)
    monkeypatch.setattr(extractor, "extract_valid", lambda ids: (extractor.table(ids[1:]), {}))
    future = rig.engine.submit(PLAN, prompts("a", "b"))
    rig.engine.start()
    errors = future.result(30).errors
    rig.engine.stop(30)
    assert {type(error) for error in errors.values()} == {InferenceError}
    assert list(errors) == [0, 1]


def test_a_listener_that_raises_costs_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()

    def broken(*_: object) -> None:
        raise ZeroDivisionError("the metric is broken")

    rig.heard.batch_done = broken  # type: ignore[method-assign]
    rig.engine.start()
    for text in ("a", "b"):
        assert not rig.engine.submit(PLAN, prompts(text)).result(30).errors
    rig.engine.stop(30)
    assert "ZeroDivisionError" in caplog.text
