"""From the rows of prompts to their table: everybody's own, or none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from splinellm.extraction.rows import assemble
from splinellm.extraction.tokens import TokenizedPrompt
from splinellm.schema import Granularity
from splinellm.token_index import NOWHERE, TokenIndex
from tests.fakes import fake_provenance

PROVENANCE = fake_provenance(layers=(0,), features=("sign_mean", "sign_min"))
PROMPTS = {
    0: TokenizedPrompt([7, 8], truncated=False),
    2: TokenizedPrompt([7, 8], truncated=True),
    3: TokenizedPrompt([9, 9, 9], truncated=True),
}


def rows_of(n_rows: int, first: int) -> np.ndarray:
    return np.arange(2 * n_rows, dtype=np.float32).reshape(n_rows, 2) + 10 * first


def index_of(*positions: int) -> TokenIndex:
    places = [(p, i) for p in positions for i in range(len(PROMPTS[p].ids))]
    nowhere = np.full(len(places), NOWHERE)
    return TokenIndex(
        np.array([p for p, _ in places], np.int64),
        np.array([i for _, i in places], np.int64),
        ["t"] * len(places),
        nowhere,
        nowhere,
    )


def test_a_row_per_prompt_in_order_with_each_prompts_own_facts() -> None:
    table = assemble({3: rows_of(1, 3), 0: rows_of(1, 0), 2: rows_of(1, 2)}, PROMPTS, PROVENANCE)
    assert table.values.tolist() == [[0, 1], [20, 21], [30, 31]]
    assert table.n_tokens.tolist() == [2, 2, 3]
    assert table.truncated.tolist() == [False, True, True]  # of equal ids, one was cut


@pytest.mark.parametrize(
    ("granularity", "n_tokens"), [("prefix", [1, 2, 1, 2, 3]), ("token", [2, 2, 3, 3, 3])]
)
def test_a_row_per_token(granularity: Granularity, n_tokens: list[int]) -> None:
    record = fake_provenance(layers=(0,), features=("sign_block_00", "sign_block_01"))
    tokens = index_of(0, 3)
    table = assemble({3: rows_of(3, 3), 0: rows_of(2, 0)}, PROMPTS, record.at(granularity), tokens)
    assert table.values.tolist() == [[0, 1], [2, 3], [30, 31], [32, 33], [34, 35]]
    assert table.n_tokens.tolist() == n_tokens
    assert table.truncated.tolist() == [False, False, True, True, True]
    assert table.tokens is tokens


def test_rows_of_prompts_which_a_cache_may_keep_are_copied() -> None:
    kept = rows_of(1, 0)
    assemble({0: kept}, PROMPTS, PROVENANCE).values[:] = -1
    assert kept.tolist() == [[0, 1]]


def test_no_rows_make_an_empty_table() -> None:
    assert assemble({}, PROMPTS, PROVENANCE).values.shape == (0, 2)
    by_prefix = assemble({}, PROMPTS, PROVENANCE.at("prefix"), index_of())
    assert by_prefix.values.shape == (0, 2)


@pytest.mark.parametrize(
    ("granularity", "rows", "tokens", "message"),
    [
        ("prompt", {0: rows_of(2, 0)}, None, "one row per prompt"),
        ("prompt", {0: rows_of(0, 0), 2: rows_of(2, 0)}, None, "one row per prompt"),
        ("prefix", {0: rows_of(1, 0)}, index_of(0), "one row per prefix"),
        ("prefix", {0: rows_of(3, 0), 3: rows_of(2, 0)}, index_of(0, 3), "one row per prefix"),
        ("prefix", {0: rows_of(2, 0)}, index_of(2), "other prompts"),
        ("prefix", {0: rows_of(2, 0)}, index_of(0, 2), "other prompts"),
    ],
)
def test_nobody_gets_the_rows_of_another(
    granularity: Granularity, rows: dict[int, Any], tokens: TokenIndex | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        assemble(rows, PROMPTS, PROVENANCE.at(granularity), tokens)
