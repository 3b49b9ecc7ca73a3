"""Rows of the classifier of domains: pieces beside their texts, and nothing like its trial."""

from __future__ import annotations

import numpy as np
import pandas as pd

from splinellm.classifiers.domains import OTHER, like_any, lines_of_domains, with_pieces
from splinellm.classifiers.templates import template_frame

LAW = "The court has heard the appeal. Costs follow the event here. Yes. The parties agree to it."
MATH = "What is 4 times 7?\n28\nWhat is 9 minus 3, and what is left?\nSolve x + 3 = 5 for x."


def frame_of(*rows: tuple[str, str]) -> pd.DataFrame:
    """Rows of texts and labels, with one more column."""
    return pd.DataFrame(rows, columns=["text", "label"]).assign(source="domains")


def test_pieces_keep_the_label_of_their_text_and_say_which_it_is() -> None:
    given = frame_of((LAW, "law"), ("a tweet", OTHER), (MATH, "math"))
    rows = with_pieces(given)
    assert list(rows["text"][:3]) == [LAW, "a tweet", MATH]
    assert list(rows["origin"][:3]) == [0, 1, 2]
    assert list(rows["is_piece"]) == [False] * 3 + [True] * (len(rows) - 3)
    pieces = rows[rows["is_piece"]]
    assert set(pieces["origin"]) == {0, 2}
    for text, label, origin in zip(pieces["text"], pieces["label"], pieces["origin"], strict=True):
        assert text in given["text"][origin]
        assert label == (OTHER if text in ("Yes.", "28") else given["label"][origin])
    assert {"Yes.", "28"} <= set(pieces["text"])
    assert set(rows["source"]) == {"domains"}


def test_the_order_of_texts_changes_no_piece() -> None:
    texts = [(LAW, "law"), (MATH, "math"), (LAW.replace("court", "judge"), "law")]
    found = [set(with_pieces(frame_of(*rows))["text"]) for rows in (texts[:2], texts[1::-1])]
    assert found[0] == found[1]


def test_pieces_that_say_the_same_are_there_once() -> None:
    rows = with_pieces(frame_of((LAW, "law"), (f"{LAW} ", "law"), ("yes", OTHER)))
    pieces = rows[rows["is_piece"]]
    assert len(set(pieces["text"])) == len(pieces) > 0
    assert "Yes." not in set(pieces["text"])  # a whole text says it
    assert set(pieces["origin"]) <= {0, 1}


def test_texts_are_alike_by_half_of_their_words() -> None:
    texts = ["The claim was dismissed with costs.", "The claim was late.", "...", "42!", "?"]
    others = ["The appeal is dismissed with costs", "42", "..."]
    np.testing.assert_array_equal(like_any(texts, others), [True, False, True, True, False])
    assert like_any([], others).shape == (0,)


def test_our_own_lines_of_a_domain_are_in_the_templates() -> None:
    texts = template_frame()["text"]
    for line in lines_of_domains():
        assert like_any(texts, [line]).any(), line
