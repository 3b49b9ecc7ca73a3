"""What shares a batch, how large it may be, and when it is closed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.service.engine.harness import (
    OTHER_PLAN,
    PLAN,
    PREFIX_PLAN,
    TOKEN_PLAN,
    Clock,
    Rig,
    check_answer,
    expected,
    prompts,
    running,
    text_of,
)
from tests.service.fakes import BATCH_TOKENS


def test_plans_do_not_share_batches_and_the_oldest_goes_first() -> None:
    rig = Rig()
    plans = [PLAN, OTHER_PLAN, PLAN, OTHER_PLAN]
    futures = [
        rig.engine.submit(plan, prompts(text_of(3 + i, str(i)))) for i, plan in enumerate(plans)
    ]
    rig.engine.start()
    for future in futures:
        future.result(30)
    rig.engine.stop(30)
    assert rig.batches == [[3, 5], [4, 6]]


def test_kinds_of_rows_do_not_share_batches_but_an_extractor() -> None:
    """Not even of equal prompts."""
    rig = Rig()
    plans = [PLAN, PREFIX_PLAN, PLAN, TOKEN_PLAN, PREFIX_PLAN]
    futures = [rig.engine.submit(plan, prompts("a text of all")) for plan in plans]
    rig.engine.start()
    for plan, future in zip(plans, futures, strict=True):
        check_answer(future.result(30), expected("a text of all", plan=plan))
    rig.engine.stop(30)
    assert rig.batches == [[4]] * 3
    assert [report.inputs for report in rig.heard.reports] == [2, 2, 1]


def test_a_stream_of_one_plan_cannot_starve_another() -> None:
    """Every answer of plan A brings a new request of A, and still B's is computed."""
    rig = Rig()
    other = rig.engine.submit(OTHER_PLAN, prompts("patient"))
    answered: list[int] = []

    def send_again(number: int) -> None:
        if number < 500 and not other.done():
            future = rig.engine.submit(PLAN, prompts(text_of(40, str(number))))
            future.add_done_callback(lambda _: (answered.append(number), send_again(number + 4))[1])

    first = rig.engine.submit(PLAN, prompts("first"))
    for number in range(4):
        send_again(number)
    rig.engine.start()
    check_answer(other.result(30), expected("patient", plan=OTHER_PLAN))
    first.result(30)
    rig.engine.stop(30)
    assert len(answered) < 20


@settings(max_examples=50, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 100), min_size=1, max_size=30),
    limit=st.one_of(st.none(), st.integers(1, 120)),
    memory=st.one_of(st.none(), st.integers(1, 80)),
)
def test_no_batch_is_beyond_the_budget(
    lengths: list[int], limit: int | None, memory: int | None
) -> None:
    rig = Rig(max_batch_tokens=limit, memory_tokens=memory)
    texts = [text_of(length, str(i)) for i, length in enumerate(lengths)]
    future = rig.engine.submit(PLAN, prompts(*texts))
    rig.engine.start()
    check_answer(future.result(30), expected(*texts))
    rig.engine.stop(30)
    budget = min(BATCH_TOKENS, limit or BATCH_TOKENS)
    for batch in rig.batches:
        assert len(batch) == 1 or len(batch) * max(batch) <= budget


def test_out_of_memory_halves_the_budget_of_what_follows() -> None:
    rig = Rig(memory_tokens=BATCH_TOKENS // 2)
    texts = [text_of(8, str(i)) for i in range(24)]
    future = rig.engine.submit(PLAN, prompts(*texts))
    rig.engine.start()
    check_answer(future.result(30), expected(*texts))
    rig.engine.stop(30)
    assert list(map(len, rig.batches)) == [8, 4, 4, 4, 4]


def test_a_prompt_longer_than_the_budget_runs_alone() -> None:
    texts = ["a", text_of(3 * BATCH_TOKENS), "b"]
    with running() as rig:
        outcome = rig.engine.submit(PLAN, prompts(*texts)).result(30)
    check_answer(outcome, expected(*texts))
    assert [3 * BATCH_TOKENS] in rig.batches


def test_who_is_alone_does_not_wait_for_company() -> None:
    """The clock stands still: whoever waited would do so for ever."""
    with running(batch_wait_s=5, clock=Clock()) as rig:
        for text in ("a", "b", "c"):
            rig.engine.submit(PLAN, prompts(text)).result(30)


def test_in_company_a_batch_that_is_not_full_waits_but_only_so_long() -> None:
    clock = Clock()
    rig = Rig(batch_wait_s=5, clock=clock)
    for text in ("a", "b"):
        rig.engine.submit(PLAN, prompts(text))
    assert rig.engine._wait_s(BATCH_TOKENS) == 5
    clock.now_s = 3
    assert rig.engine._wait_s(BATCH_TOKENS) == 2
    clock.now_s = 6
    assert rig.engine._wait_s(BATCH_TOKENS) <= 0
    rig.engine.stop(0)


def test_a_full_batch_waits_for_nobody() -> None:
    rig = Rig(batch_wait_s=5, clock=Clock())
    for i in range(2):
        rig.engine.submit(PLAN, prompts(text_of(BATCH_TOKENS // 2, str(i))))
    assert rig.engine._wait_s(BATCH_TOKENS) == 0
    rig.engine.stop(0)


def test_where_the_time_went() -> None:
    clock = Clock()
    rig = Rig(clock=clock, max_batch_tokens=8)
    extractor = rig.extractor(PLAN)
    compute = extractor.read

    def slow(batch: Any, **options: Any) -> Any:
        clock.now_s += 2.0
        return compute(batch, **options)

    extractor.read = slow  # type: ignore[method-assign]
    future = rig.engine.submit(PLAN, prompts(text_of(6, "x"), text_of(3, "y"), text_of(3, "z")))
    clock.now_s = 7.0
    rig.engine.start()
    timing = future.result(30).timing
    rig.engine.stop(30)
    assert rig.batches == [[6], [3, 3]]
    assert (timing.queue_s, timing.inference_s, timing.batch_tokens) == (7.0, 4.0, 6)
    assert [report.waits_s for report in rig.heard.reports] == [(7.0,), (9.0, 9.0)]


def test_prompts_of_different_limits_do_not_share_a_batch() -> None:
    """The limit is part of the provenance, although the ids are cut before."""
    rig = Rig()
    futures = [rig.engine.submit(replace(PLAN, max_tokens=limit), prompts("a")) for limit in (7, 8)]
    rig.engine.start()
    for future in futures:
        check_answer(future.result(30), expected("a"))
    rig.engine.stop(30)
    assert rig.batches == [[1], [1]]


def test_a_request_without_prompts_is_a_mistake() -> None:
    with running() as rig, pytest.raises(ValueError, match="prompt"):
        rig.engine.submit(PLAN, [])
