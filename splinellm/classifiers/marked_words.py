"""The recipe's step that teaches a classifier which words people marked; verdicts stay the same."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np

from splinellm.classifiers.rows import Rows
from splinellm.classifiers.trial_figures import span_figures
from splinellm.classifiers.trials import kept_aside
from splinellm.learn.marker import fit_marker
from splinellm.learn.pooled import Pooled
from splinellm.learn.pooled_scorer import MARKED

SPAN_THRESHOLD = 0.05
"""Spans are measured on posts that were chosen because they are toxic: what is asked is where."""


def with_marked_words(classifier: Pooled, rows: Rows) -> Pooled:
    """Teach a classifier marked words, in place of what it knew of them.

    Parameters
    ----------
    classifier : Pooled
        Trained; its first class that is scored is the one that people marked.
    rows : Rows
        With marked characters; a tenth is kept aside, the others are learnt from.
    """
    learn = rows[np.flatnonzero(~kept_aside(rows.texts))]
    scorer = copy(classifier.scorer)
    scorer.marker_ = fit_marker(learn.texts, learn.marks, scorer.lexicon_)
    if scorer.marker_ is None:
        return classifier
    told = {MARKED: sum(marks is not None and bool(marks.any()) for marks in learn.marks)}
    card = replace(classifier.card, settings={**classifier.card.settings, **told})
    return Pooled([scorer], card)


def marked_figures(classifier: Pooled, rows: Rows) -> dict[str, Any]:
    """Figures of spans, on marked texts that were kept aside."""
    if classifier.scorer.marker_ is None:
        return {}
    aside = rows[np.flatnonzero(kept_aside(rows.texts))]
    found = classifier.spans(aside.texts, threshold=SPAN_THRESHOLD)
    marks = [marks for marks in aside.marks if marks is not None]
    return {"spans": span_figures(found, marks, SPAN_THRESHOLD)}
