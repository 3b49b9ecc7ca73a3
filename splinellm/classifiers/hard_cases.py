"""Forty texts made by hand that classifiers of toxicity are known to get wrong.

Twenty were written with the first classifier; the other twenty before any classifier read them.
Both are for looking at, not for choosing by: nothing is trained or tuned on them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from splinellm.classifiers.classes import TOXIC
from splinellm.classifiers.judging import Judge

HARD_CASES_FILE = Path(__file__).with_name("hard_cases.jsonl")
TITLE = "hard cases"
"""Of a card's figures."""


@dataclass(frozen=True)
class HardCase:
    """One of them.

    Parameters
    ----------
    kind : str
        What is hard about it.
    label : {"clean", "toxic"}
        What it should be called.
    text : str
        To be judged.
    """

    kind: str
    label: str
    text: str


@cache
def hard_cases() -> tuple[HardCase, ...]:
    """Read them, in the order of the file."""
    lines = HARD_CASES_FILE.read_text(encoding="utf-8").splitlines()
    return tuple(HardCase(**json.loads(line)) for line in lines)


def judge_hard_cases(judge: Judge, cases: Sequence[HardCase] | None = None) -> dict[str, Any]:
    """Count the cases that a judge gets right, and list the others.

    Parameters
    ----------
    judge : Judge
        See :func:`splinellm.classifiers.judging.judge_of`.
    cases : sequence of HardCase, optional
        All of the file by default.

    Returns
    -------
    dict
        For a card's figures: ``measured on``, ``right`` such as "25 of 40", and for each text that
        was judged wrongly its ``kind``, what it ``should be``, and its ``score``.
    """
    cases = hard_cases() if cases is None else cases
    scores = judge.scores([case.text for case in cases])
    should = np.array([case.label == TOXIC for case in cases])
    wrong = np.flatnonzero((scores >= judge.threshold) != should)
    return {
        "measured on": f"{len(cases)} texts made by hand, not trained on; wrong ones listed",
        "right": f"{len(cases) - len(wrong)} of {len(cases)}",
        **{
            cases[i].text: {
                "kind": cases[i].kind,
                "should be": cases[i].label,
                "score": float(scores[i]),
            }
            for i in wrong.tolist()
        },
    }
