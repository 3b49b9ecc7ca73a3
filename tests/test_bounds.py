from __future__ import annotations

import pytest

from splinellm.bounds import bounds_of


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ("1", (1, 1)),
        (" 2-16 ", (2, 16)),
        ("3-3", (3, 3)),
        ("0", None),
        ("0-4", None),
        ("4-2", None),
        ("-3", None),
        ("2-", None),
        ("1.5", None),
        ("", None),
        ("1234567", None),
    ],
)
def test_bounds(told: str, found: tuple[int, int] | None) -> None:
    assert bounds_of(told) == found
