from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from service.engine import Plan
from service.engine.queue import Entry, Queue
from service.engine.request import Request
from splinellm.extraction.tokens import TokenizedPrompt
from splinellm.schema import FeatureSelection

PLANS = [Plan((layer,), FeatureSelection.parse("paper"), 64) for layer in range(3)]


def entries(lengths: Sequence[int], plan: Plan = PLANS[0], first: int = 0) -> list[Entry]:
    """Entries of one request; no two have the same tokens."""
    prompts = [
        TokenizedPrompt([first + position, *[1] * (length - 1)], truncated=False)
        for position, length in enumerate(lengths)
    ]
    request = Request(plan, prompts, 0.0)
    return [Entry(request, position, prompt, 0.0) for position, prompt in enumerate(prompts)]


def queue_of(*groups: list[Entry]) -> Queue:
    queue = Queue()
    for group in groups:
        queue.add(group)
    return queue


def lengths_of(batch: Sequence[Entry]) -> list[int]:
    return [entry.n_tokens for entry in batch]


def test_the_nearest_in_length_join_the_oldest() -> None:
    queue = queue_of(entries([10, 30, 11, 2, 9, 12]))
    assert lengths_of(queue.take(40)) == [10, 11, 9]
    assert lengths_of(queue.take(40)) == [30]
    assert lengths_of(queue.take(40)) == [2, 12]
    assert not queue


def test_a_longer_one_that_does_not_fit_leaves_room_for_shorter_ones() -> None:
    assert lengths_of(queue_of(entries([10, 16, 1])).take(30)) == [10, 1]


def test_a_prompt_beyond_the_budget_runs_alone() -> None:
    queue = queue_of(entries([100, 1, 1]))
    assert lengths_of(queue.take(40)) == [100]
    assert lengths_of(queue.take(40)) == [1, 1]


def test_equal_prompts_cost_nothing() -> None:
    first, second = entries([10, 10, 10]), entries([10, 10, 10])
    batch = queue_of(first, second).take(20)
    assert [entry.position for entry in batch] == [0, 1, 0, 1]


def test_the_oldest_decides_whose_turn_it_is() -> None:
    """However much of plan A comes, B is next as soon as it is the oldest."""
    a, b = PLANS[:2]
    queue = queue_of(entries([10] * 4, a), entries([10], b))
    taken = []
    for _ in range(3):
        taken.append(queue.take(20)[0].request.plan)
        queue.add(entries([10, 10], a))
    assert taken == [a, a, b]


def test_a_batch_is_complete_when_not_even_the_shortest_could_join() -> None:
    assert not queue_of(entries([10, 10])).has_batch(30)
    assert queue_of(entries([10, 10, 10])).has_batch(30)
    assert queue_of(entries([31])).has_batch(30)
    other = queue_of(entries([10]), entries([10] * 9, PLANS[1]))
    assert not other.has_batch(30)


def test_a_removed_request_leaves_nothing_behind() -> None:
    gone, kept = entries([5, 6]), entries([7])
    queue = queue_of(gone, kept)
    assert queue.remove(gone[0].request) == 2
    assert (queue.n_inputs, queue.n_tokens) == (1, 7)
    assert queue.take(100) == kept
    assert queue.remove(kept[0].request) == 0


@given(
    groups=st.lists(
        st.tuples(st.sampled_from(PLANS), st.lists(st.integers(1, 50), min_size=1, max_size=20)),
        max_size=8,
    ),
    budget=st.integers(1, 120),
)
def test_batches_keep_the_budget_and_lose_nothing(
    groups: list[tuple[Plan, list[int]]], budget: int
) -> None:
    waiting = [
        entry for number, (plan, lengths) in enumerate(groups)
        for entry in entries(lengths, plan, first=1000 * number)
    ]  # fmt: skip
    queue = queue_of(waiting)
    while queue:
        size_before, oldest = len(waiting), waiting[0]
        batch = queue.take(budget)
        assert batch[0] is oldest
        assert {entry.request.plan for entry in batch} == {oldest.request.plan}
        if len(batch) > 1:
            assert len(batch) * max(lengths_of(batch)) <= budget
        waiting = [entry for entry in waiting if entry not in batch]
        assert len(waiting) == size_before - len(batch)
        assert (queue.n_inputs, queue.n_tokens) == (len(waiting), sum(lengths_of(waiting)))
    assert not waiting
