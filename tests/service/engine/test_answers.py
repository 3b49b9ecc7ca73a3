"""Everybody gets an answer, and their own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from service.engine import InferenceError, Outcome, Plan
from splinellm.errors import NonFiniteFeaturesError, OutOfMemoryError, PromptError, SchemaError
from splinellm.extraction.tokens import TokenizedPrompt
from tests.service.engine.harness import (
    OTHER_PLAN,
    PLAN,
    PREFIX_PLAN,
    TOKEN_PLAN,
    Rig,
    check_answer,
    expected,
    expected_at,
    prompts,
    running,
    text_of,
)

PLANS = [PLAN, PREFIX_PLAN, TOKEN_PLAN]


def test_fifty_threads_get_their_own_rows() -> None:
    """Mixed plans, lengths and kinds of rows, some with a poisoned prompt before good ones."""

    def client(number: int) -> tuple[Plan, list[str], Outcome]:
        plan = (PLAN, OTHER_PLAN, PREFIX_PLAN, TOKEN_PLAN)[number % 4]
        texts = [text_of(1 + (number * k) % 17, f"{number}-{k}") for k in range(1 + number % 3)]
        texts.append("a text of all")
        if number % 10 == 0:
            texts[0] += " POISON"
        return plan, texts, rig.engine.submit(plan, prompts(*texts)).result(30)

    with running(batch_wait_s=0.001) as rig, ThreadPoolExecutor(50) as pool:
        results = list(pool.map(client, range(50)))
    for number, (plan, texts, outcome) in enumerate(results):
        poisoned = number % 10 == 0
        assert list(outcome.errors) == ([0] if poisoned else [])
        good = dict(list(enumerate(texts))[poisoned:])
        check_answer(outcome, expected_at(good, plan))


def test_a_poisoned_prompt_fails_alone(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    mate = rig.engine.submit(PLAN, prompts("a good one"))
    bad = rig.engine.submit(PLAN, prompts("fine", "this is POISON here", "fine as well"))
    with caplog.at_level(logging.DEBUG):
        rig.engine.start()
        outcome = bad.result(30)
    check_answer(mate.result(30), expected("a good one"))
    check_answer(outcome, expected_at({0: "fine", 2: "fine as well"}, PLAN))
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
    check_answer(outcome, expected(*texts))


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


@pytest.mark.parametrize("plan", PLANS)
def test_a_request_of_errors_only_has_no_rows(plan: Plan) -> None:
    with running() as rig:
        outcome = rig.engine.submit(plan, prompts("NAN", "POISON")).result(30)
    assert list(outcome.errors) == [0, 1]
    check_answer(outcome, expected(plan=plan))


@pytest.mark.parametrize("plan", PLANS)
def test_a_request_may_be_larger_than_a_batch(plan: Plan) -> None:
    texts = [text_of(length) for length in (30, 1, 20, 64, 7, 30, 2)]
    with running() as rig:
        outcome = rig.engine.submit(plan, prompts(*texts)).result(30)
    check_answer(outcome, expected(*texts, plan=plan))
    assert len(rig.batches) > 2


@pytest.mark.parametrize("plan", PLANS)
def test_equal_prompts_are_computed_once_but_each_is_answered(plan: Plan) -> None:
    rig = Rig()
    texts = [["same text", f"own {i}"][:: 1 if i else -1] for i in range(3)]
    futures = [rig.engine.submit(plan, prompts(*both)) for both in texts]
    rig.engine.start()
    for both, future in zip(texts, futures, strict=True):
        check_answer(future.result(30), expected(*both, plan=plan))
    rig.engine.stop(30)
    assert rig.batches == [[2, 2, 2, 2]]
    report = rig.heard.reports[0]
    assert (report.inputs, report.distinct_inputs, report.padded_tokens) == (6, 4, 8)


def test_a_plan_that_no_extractor_can_do_fails_its_requests_alone() -> None:
    rig = Rig()
    real = rig.engine._reader_of

    def reader_of(plan: Plan) -> object:
        if plan == OTHER_PLAN:
            raise SchemaError("impossible")
        return real(plan)

    rig.engine._reader_of = reader_of  # type: ignore[assignment]
    rig.engine.start()
    with pytest.raises(SchemaError, match="impossible"):
        rig.engine.submit(OTHER_PLAN, prompts("a", "b")).result(30)
    check_answer(rig.engine.submit(PLAN, prompts("a")).result(30), expected("a"))
    rig.engine.stop(30)


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize(
    "spoil",
    [
        lambda found: dict(list(found.items())[1:]),
        lambda found: found | {b"nobody's": next(iter(found.values()))},
        lambda found: {key: rows[1:] for key, rows in found.items()},
        lambda found: {key: np.concatenate([rows, rows[:1]]) for key, rows in found.items()},
        lambda found: {key: rows[:, 1:] for key, rows in found.items()},
    ],
    ids=["prompt missing", "prompt too many", "row missing", "row twice", "column missing"],
)
def test_rows_that_may_be_anothers_are_no_answer(
    monkeypatch: pytest.MonkeyPatch, plan: Plan, spoil: Callable[[Any], Any]
) -> None:
    """What is wrong with a batch is computed again, prompt by prompt."""
    rig = Rig()
    extractor = rig.extractor(plan)
    compute = extractor.read

    def spoilt(batch: Mapping[Any, TokenizedPrompt], **options: Any) -> Any:
        found = compute(batch, **options)
        return spoil(found) if len(batch) > 1 else found

    monkeypatch.setattr(extractor, "read", spoilt)
    future = rig.engine.submit(plan, prompts("a b", "c d e"))
    rig.engine.start()
    check_answer(future.result(30), expected("a b", "c d e", plan=plan))
    rig.engine.stop(30)
    assert rig.heard.events == [("retried", 2), ("stopped", 0)]


def test_a_prompt_whose_rows_stay_wrong_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    monkeypatch.setattr(rig.extractor(PLAN), "read", lambda *_, **__: {})
    future = rig.engine.submit(PLAN, prompts("a", "b"))
    rig.engine.start()
    errors = future.result(30).errors
    rig.engine.stop(30)
    assert {type(error) for error in errors.values()} == {InferenceError}
    assert list(errors) == [0, 1]


def test_rows_of_another_kind_are_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig()
    extractor = rig.extractor(PLAN)
    compute = extractor.read
    monkeypatch.setattr(extractor, "read", lambda batch, **_: compute(batch, granularity="prefix"))
    rig.engine.start()
    for plan in (PLAN, TOKEN_PLAN):
        errors = rig.engine.submit(plan, prompts("a b")).result(30).errors
        assert isinstance(errors[0], InferenceError)
    rig.engine.stop(30)


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
