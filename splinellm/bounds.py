"""How many there may be: ``N``, or ``MIN-MAX``."""

from __future__ import annotations

import re

_BOUNDS = re.compile(r"(\d{1,6})(?:-(\d{1,6}))?")


def bounds_of(told: str) -> tuple[int, int] | None:
    """Least and most of what ``N`` or ``MIN-MAX`` says; None if it says nothing possible.

    Examples
    --------
    >>> bounds_of("1-16"), bounds_of("2"), bounds_of("4-2")
    ((1, 16), (2, 2), None)
    """
    found = _BOUNDS.fullmatch(told.strip())
    if found is None:
        return None
    least, most = int(found[1]), int(found[2] or found[1])
    return (least, most) if 1 <= least <= most else None
