"""Cut prompts into batches under a budget of padded tokens."""

from __future__ import annotations

from collections.abc import Sequence


def longest_first(lengths: Sequence[int]) -> list[int]:
    """Order prompts so that neighbours have similar lengths.

    The longest go first, so that running out of memory shows at once.

    Parameters
    ----------
    lengths : sequence of int
        Tokens of each prompt.

    Returns
    -------
    list of int
        Positions in `lengths`.
    """
    return sorted(range(len(lengths)), key=lambda position: -lengths[position])


def batch_size(lengths: Sequence[int], budget: int) -> int:
    """Count how many of the next prompts make a batch.

    The cost of a batch is its padded size: the number of prompts times the longest of them.

    Parameters
    ----------
    lengths : sequence of int
        Tokens of the prompts still to be read, longest first; not empty.
    budget : int
        Largest padded size of a batch. A prompt beyond it gets a batch of its own.

    Returns
    -------
    int
        At least 1.
    """
    return min(max(1, budget // lengths[0]), len(lengths))
