"""What judges do in the trials: figures for cards and for the table of peers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from splinellm.classifiers.judging import Judge
from splinellm.classifiers.trials import DISGUISES, LongText, clean_trials, disguised
from splinellm.errors import ConfigurationError
from splinellm.learn.composing import PLACES
from splinellm.learn.metrics import Target, choose_threshold
from splinellm.learn.spans import Span

FALSE_ALARMS = 0.01
"""Share of the long clean texts that may be flagged."""

MEASURED_ON = "measured on"


def threshold_at(clean_scores: np.ndarray, rate: float) -> float:
    """The lowest score that flags at most a share `rate` of clean texts, or just more than any."""
    chosen = choose_threshold(np.zeros(len(clean_scores)), clean_scores, Target("fpr", rate))
    return float(np.nextafter(clean_scores.max(), np.inf)) if chosen is None else chosen


def long_text_figures(judge: Judge, trial: Sequence[LongText]) -> dict[str, Any]:
    """Recall of short toxic texts among clean ones, by length and place.

    Parameters
    ----------
    judge : Judge
        Its threshold is not used: one is chosen for all lengths, at 1 % false alarms on the long
        texts without anything in them.
    trial : sequence of LongText
        See :func:`splinellm.classifiers.trials.long_texts`.

    Returns
    -------
    dict
        ``measured on``, a row for each length, one for ``all``, and where the clean texts are of
        several origins one for each with a threshold of its own: what is called clean is not always
        so. Each has the number of ``texts`` and the recall at each place and over ``all`` of them.

    Raises
    ------
    ConfigurationError
        There is no long text without anything in it, or none with.
    """
    scores = judge.scores([one.text for one in trial])
    places = np.array([one.place or "" for one in trial])
    lengths = np.array([one.length for one in trial])
    if not (places == "").any() or not (places != "").any():
        raise ConfigurationError("the trial needs long texts that are clean, and others")
    toxic = places != ""
    origins = np.array([one.origin for one in trial])

    def row(among: np.ndarray, clean: np.ndarray) -> dict[str, Any]:
        found = scores >= threshold_at(scores[clean], FALSE_ALARMS)
        by_place = {place: float(found[among & (places == place)].mean()) for place in PLACES}
        return {"texts": int(among.sum()), **by_place, "all": float(found[among].mean())}

    names = sorted(set(origins.tolist()))
    return {
        MEASURED_ON: f"short toxic texts in clean ones, {FALSE_ALARMS:.0%} of "
        f"{int((~toxic).sum())} long clean texts flagged",
        **{
            f"{n} tokens": row(toxic & (lengths == n), ~toxic)
            for n in sorted(set(lengths.tolist()))
        },
        "all": row(toxic, ~toxic),
        **{
            f"in {name} alone": row(toxic & (origins == name), ~toxic & (origins == name))
            for name in (names if len(names) > 1 else ())
        },
    }


def disguise_figures(
    judge: Judge, toxic: Sequence[str], *, threshold: float | None = None
) -> dict[str, Any]:
    """Recall of toxic texts at a fixed threshold, plain and disguised.

    Parameters
    ----------
    judge : Judge
        See :func:`splinellm.classifiers.judging.judge_of`.
    toxic : sequence of str
        Toxic texts.
    threshold : float, optional
        The judge's own by default.
    """
    limit = judge.threshold if threshold is None else threshold
    texts = {"plain": list(toxic)} | {name: disguised(toxic, name) for name in DISGUISES}
    recall = {name: _share(judge, part, limit) for name, part in texts.items()}
    return {
        MEASURED_ON: f"{len(toxic)} toxic texts, each word disguised, threshold {limit:.4g}",
        **{
            name: {"recall": found, "lost": recall["plain"] - found}
            for name, found in recall.items()
        },
    }


def false_alarm_figures(
    judge: Judge, clean: Sequence[str], *, threshold: float | None = None
) -> dict[str, Any]:
    """Share of clean texts that is flagged at a fixed threshold, plain and with harmless ornaments.

    Parameters
    ----------
    judge, threshold
        See :func:`disguise_figures`.
    clean : sequence of str
        Clean texts.
    """
    limit = judge.threshold if threshold is None else threshold
    trials: Mapping[str, Sequence[str]] = clean_trials(clean)
    return {
        MEASURED_ON: f"clean texts, threshold {limit:.4g}",
        **{
            name: {"texts": len(texts), "flagged": _share(judge, texts, limit)}
            for name, texts in trials.items()
        },
    }


def span_figures(
    spans: Sequence[Sequence[Span]], marks: Sequence[np.ndarray], threshold: float
) -> dict[str, Any]:
    """Character F1 of spans by the scoring of SemEval-2021 task 5: the mean over texts.

    Parameters
    ----------
    spans : sequence of sequence of Span
        Found in each of N texts.
    marks : sequence of ndarray of bool
        Characters of each that people marked; where there are none, finding none counts one.
    threshold : float
        That the spans were asked for with, for the card.
    """
    scores, n_empty = [], 0
    for found, marked in zip(spans, marks, strict=True):
        inside = np.zeros(len(marked), np.bool_)
        for span in found:
            inside[span.begin : span.end] = True
        both = int((inside & marked).sum())
        sizes = int(inside.sum() + marked.sum())
        n_empty += not marked.any()
        scores.append(2.0 * both / sizes if sizes else 1.0)
    return {
        MEASURED_ON: f"{len(marks)} posts, {n_empty} of them without a mark; character F1, "
        f"threshold {threshold:.4g}",
        "toxic": {"texts": len(marks), "F1": float(np.mean(scores))},
    }


def _share(judge: Judge, texts: Sequence[str], threshold: float) -> float:
    return float((judge.scores(texts) >= threshold).mean())
