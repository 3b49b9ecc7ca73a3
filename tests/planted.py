"""Texts with a bad word in every second one."""

from __future__ import annotations

import numpy as np

WORDS = ("alpha", "beta", "gamma", "delta", "house", "tree", "river", "stone")


def planted_texts(n: int) -> list[str]:
    """Every second one has a bad word somewhere."""
    random = np.random.default_rng(0)
    found = []
    for i in range(n):
        words = random.choice(WORDS, int(random.integers(3, 12))).tolist()
        if i % 2:
            words.insert(int(random.integers(len(words) + 1)), "zzz idiot zzz")
        found.append(" ".join(words))
    return found
