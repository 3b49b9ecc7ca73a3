"""False alarms by dialect: whole words, rates on either side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from splinellm.classifiers.dialect import dialect_figures, has_dialect
from splinellm.classifiers.judging import Judge
from splinellm.errors import ConfigurationError


def test_features_are_whole_words() -> None:
    texts = [
        "He finna leave",
        "they  be loud",
        "Y\u2019all come",
        "dat's mine, @dat #dat",
        "a date",
        "",
    ]
    assert has_dialect(texts).tolist() == [True, True, True, False, False, False]


def test_rates_on_either_side() -> None:
    texts = ["he finna go"] * 20 + ["he will go"] * 60

    def scores(texts: Sequence[str]) -> np.ndarray:
        return np.arange(len(texts)) % 4 / 4 + 0.5 * np.array(["finna" in t for t in texts])

    found = dialect_figures(Judge("j", scores, threshold=0.75), texts)
    assert found["with features"]["texts"] == 20
    assert found["with features"]["flagged"] == 0.75
    assert found["without"] == {"texts": 60, "flagged": 0.25, "95 %": found["without"]["95 %"]}
    low, high = found["without"]["95 %"]
    # Wilson's interval solves (p - 1/4)² = z² p (1 - p) / n.
    for edge in (low, high):
        assert (edge - 0.25) ** 2 == pytest.approx(1.959964**2 * edge * (1 - edge) / 60)
    assert dialect_figures(Judge("j", scores), texts, threshold=9)["without"]["flagged"] == 0
    with pytest.raises(ConfigurationError, match="0 texts with features"):
        dialect_figures(Judge("j", scores), ["he will go"] * 60)
