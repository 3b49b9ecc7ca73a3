"""Short texts of every domain: what is in the file, and what is counted right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from splinellm.classifiers.short_domains import domain_figures, judge_short_texts, short_texts
from splinellm.learn.artifact import load_card


def test_there_are_some_of_every_domain_and_some_of_none() -> None:
    cases = short_texts()
    assert len({case.text for case in cases}) == len(cases) == 44
    labels = Counter(case.label for case in cases)
    assert set(labels) == {*load_card("domain").classes, None}
    assert labels == {**dict.fromkeys(labels, 4), "code": 7, None: 5}
    assert max(len(case.text) for case in cases) < 120


def test_right_ones_are_counted_and_wrong_ones_listed() -> None:
    cases = short_texts()

    def predict(texts: Sequence[str]) -> list[str]:
        assert list(texts) == [case.text for case in cases]
        return ["code" if case.label == "code" else "other" for case in cases]

    found = judge_short_texts(predict)
    assert "44 short texts" in found.pop("measured on")
    assert found.pop("right") == "11 of 39"
    assert found.pop("called other") == "28 of 35"
    assert found.pop("of no domain") == "5 of 5 called other"
    assert len(found) == 28
    assert found["What is 17 times 24?"] == {"should be": "math", "is called": "other"}
    mostly = judge_short_texts(lambda texts: ["law"] * len(texts))
    assert (mostly["right"], mostly["called other"]) == ("4 of 39", "0 of 35")
    assert mostly["of no domain"] == "0 of 5 called other"


def test_figures_by_domain() -> None:
    label = np.array(["code", "code", "code", "law", "law", "other", "other"])
    called = np.array(["code", "other", "law", "law", "law", "other", "law"])
    found = domain_figures(label, called)
    assert list(found) == ["code", "law", "all domains", "other"]
    assert found["code"] == pytest.approx(
        {"rows": 3, "right": 1 / 3, "called other": 1 / 3, "wrong": 1 / 2}
    )
    assert found["law"] == {"rows": 2, "right": 1.0, "called other": 0.0, "wrong": 0.0}
    assert found["all domains"] == pytest.approx(
        {"rows": 5, "right": 0.6, "called other": 0.2, "wrong": 0.25}
    )
    assert found["other"] == {"rows": 2, "right": 0.5}
    unsure = domain_figures(np.array(["law"]), np.array(["other"]))
    assert unsure["law"] == {"rows": 1, "right": 0.0, "called other": 1.0, "wrong": 0.0}
