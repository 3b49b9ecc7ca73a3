"""Texts of many lengths, no two alike."""

from __future__ import annotations

_WORDS = ["the", "capital", "of", "France", "is", "Paris", "bring", "washing", "in", "thank you"]


def texts_of(n: int) -> list[str]:
    return [
        " ".join([*(_WORDS[(i * 7 + k * 3) % len(_WORDS)] for k in range(1 + i % 9)), str(i)])
        for i in range(n)
    ]
