from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from splinellm.extraction.batching import batch_size, longest_first


@given(st.lists(st.integers(1, 500), min_size=1, max_size=50), st.integers(1, 2000))
def test_batches_cover_all_prompts_within_the_budget(lengths: list[int], budget: int) -> None:
    order = longest_first(lengths)
    assert sorted(order) == list(range(len(lengths)))
    remaining = [lengths[i] for i in order]
    assert remaining == sorted(lengths, reverse=True)
    while remaining:
        size = batch_size(remaining, budget)
        assert 1 <= size <= len(remaining)
        assert size * remaining[0] <= budget or size == 1
        # As full as it may be.
        assert size == len(remaining) or (size + 1) * remaining[0] > budget
        remaining = remaining[size:]


def test_equal_lengths_keep_their_order() -> None:
    assert longest_first([3, 5, 3, 5, 3]) == [1, 3, 0, 2, 4]
