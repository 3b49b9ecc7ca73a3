"""Short texts of every domain, made by hand before any classifier of domains had read them.

They are for looking at, not for choosing by: nothing like them is trained on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from splinellm.classifiers.domains import OTHER

if TYPE_CHECKING:
    from splinellm.classifiers.rows import Rows
    from splinellm.learn.out_of_fold import OutOfFold
    from splinellm.learn.pooled import Pooled

TITLE = "short texts"
"""Of a card's figures."""

SHORT_TEXTS_FILE = Path(__file__).with_name("short_domains.jsonl")


@dataclass(frozen=True)
class ShortText:
    """One of them.

    Parameters
    ----------
    label : str or None
        Its domain; None where nobody could say.
    text : str
        To be judged.
    """

    label: str | None
    text: str


@cache
def short_texts() -> tuple[ShortText, ...]:
    """Read them, in the order of the file."""
    lines = SHORT_TEXTS_FILE.read_text(encoding="utf-8").splitlines()
    return tuple(ShortText(**json.loads(line)) for line in lines)


def judge_short_texts(
    predict: Callable[[Sequence[str]], Sequence[str]], cases: Sequence[ShortText] | None = None
) -> dict[str, Any]:
    """Count the short texts whose domain is told, and list those that are told wrongly.

    Parameters
    ----------
    predict : callable
        From N texts to the domain of each.
    cases : sequence of ShortText, optional
        All of the file by default.

    Returns
    -------
    dict
        For a card's figures: ``measured on``, ``right`` such as "31 of 39", ``called other``
        among the texts of a domain, ``of no domain`` how many texts that say nothing are called
        other, and each text of a domain that is told wrongly with what it ``should be`` and ``is
        called``.
    """
    cases = short_texts() if cases is None else cases
    called = list(predict([case.text for case in cases]))
    pairs = list(zip(cases, called, strict=True))
    known = [(case, name) for case, name in pairs if case.label is not None]
    unknown = [name for case, name in pairs if case.label is None]
    wrong = [(case, name) for case, name in known if name != case.label]
    unsure = [case for case, name in wrong if name == OTHER]
    return {
        "measured on": f"{len(cases)} short texts made by hand, not trained on; wrong ones listed",
        "right": f"{len(known) - len(wrong)} of {len(known)}",
        "called other": f"{len(unsure)} of {sum(case.label != OTHER for case, _ in known)}",
        "of no domain": f"{unknown.count(OTHER)} of {len(unknown)} called other",
        **{case.text: {"should be": case.label, "is called": name} for case, name in wrong},
    }


def domain_figures(label: np.ndarray, called: np.ndarray) -> dict[str, dict[str, float]]:
    """Count by domain what is told of texts that were not trained on.

    Parameters
    ----------
    label, called : ndarray of str, shape (N,)
        The domain of each text, and what it is told to be.

    Returns
    -------
    dict of str to dict
        By domain, and for ``all domains`` together: ``rows``, the share that is ``right``, the
        share ``called other``, and the share ``wrong`` of what is not called other; of ``other``
        itself ``rows`` and ``right``.
    """
    found = {}
    for name in [*sorted(set(label.tolist()) - {OTHER}), "all domains"]:
        own = label != OTHER if name == "all domains" else label == name
        told = own & (called != OTHER)
        found[name] = {
            "rows": int(own.sum()),
            "right": _share(called[own] == label[own]),
            "called other": _share(called[own] == OTHER),
            "wrong": _share(called[told] != label[told]),
        }
    own = label == OTHER
    return found | {OTHER: {"rows": int(own.sum()), "right": _share(called[own] == OTHER)}}


def domain_trials(classifier: Pooled, rows: Rows, kept: OutOfFold) -> dict[str, Any]:
    """Figures of whole texts, of pieces, both held out, and of short texts made by hand.

    Parameters
    ----------
    classifier : Pooled
        Of domains.
    rows : Rows
        That it was trained on; they say which are pieces.
    kept : OutOfFold
        Probabilities of those that were held out when it was tried.
    """
    assert rows.is_piece is not None  # noqa: S101 (domain_rows says it)
    classes = classifier.card.classes
    held_out = kept.of(classes[0])[0]
    scores = np.column_stack([kept.of(name)[1] for name in classes])
    called = np.array(classes)[scores.argmax(axis=1)]
    pieces = rows.is_piece[held_out]
    return {
        **{
            f"domains of {title}": {
                "measured on": f"{title} that were held out",
                **domain_figures(rows.label[held_out][part], called[part]),
            }
            for title, part in {"whole texts": ~pieces, "pieces": pieces}.items()
        },
        TITLE: judge_short_texts(lambda texts: classifier.predict_texts(list(texts)).predicted),
    }


def _share(claims: np.ndarray) -> float:
    return float(claims.mean()) if len(claims) else 0.0
