"""Text of others can be seen, and does nothing."""

from __future__ import annotations

import pytest

from splinellm.shown import shown, width


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\nb\tc", "a⏎b⇥c"),
        ("\x00\x1b[31m", "␀␛[31m"),
        ("\u202etxet", "\\u202etxet"),
        ("\ud800", "\ufffd"),
        ("שלום 🙂", "שלום 🙂"),
        ("<script>", "<script>"),
    ],
)
def test_every_character_is_seen(text: str, expected: str) -> None:
    assert shown(text) == expected


def test_long_text_is_cut_and_says_so() -> None:
    assert shown("a" * 100_000, 10) == "a" * 10 + " … (100,000 characters)"
    assert shown("a" * 10, 10) == "a" * 10


def test_width_counts_columns() -> None:
    assert width("ab") == 2
    assert width("漢字") == 4
    assert width("e\u0301") == 1
