"""Thresholds for somebody's own data: chosen on labelled rows, with how far they can be trusted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from splinellm.errors import ConfigurationError, LabelError
from splinellm.learn.bootstrap import INTERVALS, threshold_interval
from splinellm.learn.decisions import ABSTAIN, bands_of, choose_band, settings_of
from splinellm.learn.labels import Labels, class_indices, positive_flags
from splinellm.learn.metrics import Target, choose_threshold, class_figures
from splinellm.learn.predictions import Predictions, scored_classes

if TYPE_CHECKING:
    from splinellm.learn.card import Card
    from splinellm.learn.classifier import Classifier

ClassifierT = TypeVar("ClassifierT", bound="Classifier")

TEXT_HASHES = "text_hashes"
"""Of a card's data: the smallest hashes of its texts, by which others are known again."""
N_HASHES = 128
OWN_DATA = "threshold"
"""Of a card's metrics: figures on the rows that thresholds were chosen on."""

_AT_A_THRESHOLD = ("precision", "recall", "fpr", "threshold")
"""Figures that belong to the threshold that they were measured at, and to no other."""
_UNCERTAIN = "uncertain"

_ENOUGH_FLAGGED = 5
"""Rows without a class that may be flagged: with fewer a rate is a matter of one row."""
_ENOUGH_WITH = 50


class ThresholdWarning(UserWarning):
    """A threshold was chosen on rows that say little of it."""


def text_hashes(texts: Iterable[str]) -> list[str]:
    """The smallest hashes of texts, ascending: equal texts have equal ones; they tell no text."""
    found = {hashlib.sha256(text.encode()).hexdigest()[:12] for text in texts}
    return sorted(found)[:N_HASHES]


def trained_on(card: Card, texts: Sequence[str], sha256: str | None = None) -> bool:
    """Whether rows were among those that a classifier was trained on, as far as its card tells."""
    if sha256 and card.data.get("sha256") == sha256:
        return True
    known = set(card.data.get(TEXT_HASHES, ()))
    if not known:
        return False
    given = [text for text in (*texts, *card.as_read(texts)) if isinstance(text, str)]
    return any(hashlib.sha256(text.encode()).hexdigest()[:12] in known for text in given)


def without_threshold_figures(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out of a card's figures what belongs to thresholds that it no longer has.

    What says itself at which threshold it was measured stays, such as figures of disguised words.

    Parameters
    ----------
    metrics : mapping
        Of a card.
    """
    kept = {}
    for title, figures in metrics.items():
        if title in ("held out", "fairness", OWN_DATA) and isinstance(figures, dict):
            kept[title] = {name: _without_threshold(row) for name, row in figures.items()}
        elif title != _UNCERTAIN:
            kept[title] = figures
    return kept


def _without_threshold(row: Any) -> Any:
    if not isinstance(row, dict):
        return row
    return {
        key: _without_threshold(value) if key == INTERVALS else value
        for key, value in row.items()
        if key not in _AT_A_THRESHOLD
    }


def labels_for(card: Card, given: Any, n_rows: int, *, positive: str | None = None) -> Labels:
    """Read labels as a classifier's: its classes, or 0/1, true/false, yes/no.

    Parameters
    ----------
    card : Card
        Of the classifier.
    given : sequence, shape (N,) or (N, C)
        A class each, or of several labels a flag each.
    n_rows : int
        Rows that they must be of.
    positive : str, optional
        The label that stands for the second of two classes; all others stand for the first.

    Raises
    ------
    LabelError
        One is none of these, or there are none with or without a class.
    ConfigurationError
        Of several classes the most probable is chosen, without a threshold.
    """
    if not scored_classes(card.kind, card.classes):
        raise ConfigurationError(
            f"classifier '{card.name}' chooses the most probable of several classes, without a "
            "threshold"
        )
    if len(given) != n_rows:
        raise LabelError(f"{len(given)} labels do not fit {n_rows} rows")
    if positive is not None:
        if card.kind == "multilabel":
            raise ConfigurationError(
                f"classifier '{card.name}' has several labels, each of 0 and 1"
            )
        given = positive_flags(list(given), positive, "label")
    labels = Labels(card.kind, card.classes, class_indices(card.kind, card.classes, given))
    for name in labels.scored_classes:
        if len(set(labels.indicator(name).tolist())) < 2:
            raise LabelError(f"there must be rows with '{name}' and rows without")
    return labels


def choose(
    classifier: ClassifierT,
    predictions: Predictions,
    labels: Labels,
    target: Target,
    *,
    data: dict[str, Any],
    was_trained_on: bool = False,
) -> tuple[ClassifierT, list[str]]:
    """Choose a classifier's thresholds on labelled rows.

    Parameters
    ----------
    classifier : Classifier
        Stays as it is.
    predictions : Predictions
        What it says of the rows.
    labels : Labels
        Of the rows.
    target : Target
        What is to be reached.
    data : dict
        Name and number of the rows, for the card.
    was_trained_on : bool
        Whether the classifier has seen the rows.

    Returns
    -------
    classifier : Classifier
        With its card brought up to date: thresholds, uncertain bands, figures with intervals.
    warnings : list of str
        What one must know of them.

    Raises
    ------
    ConfigurationError
        No threshold reaches the target.
    """
    card = classifier.card
    thresholds, intervals, notes = dict(card.thresholds), {}, []
    for name in labels.scored_classes:
        truth, scores = labels.indicator(name), predictions.probabilities[:, _at(card, name)]
        chosen = choose_threshold(truth, scores, target)
        if chosen is None:
            raise ConfigurationError(
                f"no threshold reaches {target.measure} {target.value:g} for '{name}' on these "
                f"{len(labels)} rows",
                hint="choose another target, or give more rows",
            )
        thresholds[name] = chosen
        intervals[name] = threshold_interval(truth, scores, target)
        notes += _too_few(name, truth, target)
    if was_trained_on:
        notes.append(
            "the classifier was trained on these rows, or on some of them: on others it will do "
            "worse than they say"
        )
    elif not card.data.get(TEXT_HASHES):
        sources = card.data.get("name")
        learned_from = f"; it learned from {sources}" if sources else ""
        notes.append(
            "whether the classifier was trained on these rows cannot be told, as its card has no "
            f"hashes of its texts{learned_from}"
        )
    figures: dict[str, Any] = class_figures(labels, predictions.probabilities, thresholds)
    for name, row in figures.items():
        row["threshold"] = thresholds[name]
        if intervals[name] is not None:
            row[INTERVALS]["threshold"] = intervals[name]
    settings = {**card.settings, "threshold_for": f"{target.measure} {target.value}"}
    settings.pop("target_not_reached", None)
    told, dropped = _bands(card, predictions, thresholds)
    settings.pop(ABSTAIN, None)
    settings |= told
    notes += dropped
    seen = ", trained on in part" if was_trained_on else ""
    measured_on = f"the {data['rows']} rows of {data['name']} that it was chosen on{seen}"
    others = without_threshold_figures(card.metrics)
    others.pop(OWN_DATA, None)
    metrics = {OWN_DATA: {"measured on": measured_on, **figures}, **others}
    card = replace(card, thresholds=thresholds, settings=settings, metrics=metrics)
    return classifier.with_card(card), notes


def _too_few(name: str, truth: np.ndarray, target: Target) -> list[str]:
    n_with, n_without = int((truth == 1).sum()), int((truth == 0).sum())
    if target.measure == "fpr":
        needed = int(np.ceil(_ENOUGH_FLAGGED / target.value))
        if n_without < needed:
            few = f"{n_without} rows without '{name}' are too few for a rate of {target.value:g}"
            return [f"{few}: about {needed} are needed"]
    elif n_with < _ENOUGH_WITH:
        few = f"{n_with} rows with '{name}' are too few for a {target.measure}"
        return [f"{few}: about {_ENOUGH_WITH} are needed"]
    return []


def _bands(
    card: Card, predictions: Predictions, thresholds: dict[str, float]
) -> tuple[dict[str, Any], list[str]]:
    """Uncertain bands around the new thresholds that hold as many of the rows as the old ones."""
    bands, notes = {}, []
    for name, band in bands_of(card).items():
        scores = predictions.probabilities[:, _at(card, name)]
        share = float(band.holds(scores).mean())
        if 0.0 < share < 1.0:
            bands[name] = choose_band(scores, thresholds[name], share)
        else:
            notes.append(f"the uncertain band of '{name}' is dropped: it held none or all rows")
    return ({ABSTAIN: settings_of(bands)} if bands else {}), notes


def _at(card: Card, name: str) -> int:
    return card.classes.index(name)
