"""The READMEs of classifiers."""

from __future__ import annotations

import pytest

from splinellm.learn.artifact import BOXED_FOLDER, boxed_names
from splinellm.learn.card import Card
from splinellm.learn.readme import readme_of


@pytest.mark.parametrize("name", boxed_names())
def test_a_boxed_readme_is_what_its_card_says(name: str) -> None:
    folder = BOXED_FOLDER / name
    written = (folder / "README.md").read_text(encoding="utf-8")
    assert readme_of(Card.from_json((folder / "card.json").read_bytes())) == written
