"""Short pieces of texts: where they are cut, and that nothing but the text decides."""

from __future__ import annotations

import pytest

from splinellm.classifiers.pieces import empty_piece_of, is_empty, is_telling, pieces_of, units_of

CODE = "class A:\n    def f(x):\n        y = x + 1\n\n        return y\n}\n"
PROSE = "One is here. Two is there! \u201cThree?\u201d 4 too. Last of all."


@pytest.mark.parametrize(
    ("text", "by_line", "units"),
    [
        (CODE, True, ["class A:", "    def f(x):", "        y = x + 1", "        return y", "}"]),
        (
            PROSE,
            False,
            ["One is here.", "Two is there!", "\u201cThree?\u201d", "4 too.", "Last of all."],
        ),
        ("Title\n\nA text.\nMore", False, ["Title", "A text.", "More"]),
        ("A kit: a step; and\n a pump.", False, ["A kit: a step;", "and\n a pump."]),
        ("One; two. Three.", False, ["One; two.", "Three."]),
        (" \n ", True, []),
    ],
)
def test_units_are_lines_or_sentences(text: str, by_line: bool, units: list[str]) -> None:
    assert units_of(text, by_line=by_line) == units


@pytest.mark.parametrize(
    "text",
    ["See FIG. 3 and Mr. Smith in s. 9 of J. Doe vs. Roe.", "in 3.5 cm\nof rain. and so on"],
)
def test_not_every_stop_ends_a_sentence(text: str) -> None:
    assert units_of(text, by_line=False) == [text]


def test_pieces_are_up_to_three_units_in_a_row() -> None:
    text = " ".join(f"This is sentence {i}." for i in range(30))
    lengths = set()
    for copy in range(20):
        for piece in pieces_of(f"Copy {copy}. {text}", by_line=False, n=4):
            assert f"Copy {copy}. {text}".count(piece) == 1
            lengths.add(len(units_of(piece, by_line=False)))
    assert lengths == {1, 2, 3}


def test_lines_lose_what_all_are_indented_by() -> None:
    text = "\n".join(f"        if x == {i}:\n            y = {i}" for i in range(9))
    pieces = {p for i in range(9) for p in pieces_of(f"{text}\n# {i}", by_line=True, n=9)}
    assert "if x == 3:\n    y = 3" in pieces
    assert all(piece == piece.strip() for piece in pieces)


@pytest.mark.parametrize("text", ["x = 1", "What is it?", "28\n}\nreturn", ""])
def test_what_is_one_unit_or_tells_nothing_gives_no_piece(text: str) -> None:
    assert pieces_of(text, by_line=True, n=5) == []


def test_the_text_alone_decides() -> None:
    assert pieces_of(PROSE, by_line=False, n=2) == pieces_of(PROSE, by_line=False, n=2)
    more = pieces_of(PROSE, by_line=False, n=9)
    assert more[: len(pieces_of(PROSE, by_line=False, n=2))] == pieces_of(PROSE, by_line=False, n=2)
    assert len(set(more)) == len(more) > 2


@pytest.mark.parametrize(
    ("piece", "telling", "empty"),
    [
        ("x = 1", True, False),
        ("return err", True, False),
        ("}", False, False),
        ("@Test", False, False),
        ("28", False, True),
        ("-3", False, True),
        ("\u201cYes,\u201d", False, True),
        ("Thanks!", False, True),
        ("...", False, True),
    ],
)
def test_one_word_tells_nothing(piece: str, telling: bool, empty: bool) -> None:
    assert is_telling(piece) is telling
    assert is_empty(piece) is empty


def test_empty_pieces() -> None:
    assert empty_piece_of("What is 4 times 7?\n28\nWhat is 2 plus 2?", by_line=True) == "28"
    assert empty_piece_of("I see. Thanks. Bye now.", by_line=False) == "Thanks."
    assert empty_piece_of(CODE, by_line=True) is None
