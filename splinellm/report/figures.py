"""What a classifier does at every threshold, drawn for each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

from splinellm.provenance import library_versions
from splinellm.report.page import Figure, Section
from splinellm.shown import shown

if TYPE_CHECKING:
    from types import ModuleType

    from splinellm.learn.labels import Labels
    from splinellm.learn.out_of_fold import OutOfFold
    from splinellm.provenance import Provenance

MOST_CLASSES = 12
"""Of which curves are drawn; the tables have all."""
NO_PICTURES = "There are no figures: they need the extra 'plots' (pip install 'splinellm[plots]')."

_SMALL = {"width": 520, "height": 600}
_TITLE = 30
"""Characters that are sure to fit above a small picture."""
_WIDE = {"width": 900}


def pictures() -> ModuleType | None:
    """The package of pictures, if plotly is installed."""
    try:
        from splinellm import plots
    except ImportError:
        return None
    return plots


def curves(
    kept: OutOfFold,
    labels: Labels,
    thresholds: Mapping[str, Mapping[str, float]],
    *,
    calibrated: bool,
) -> list[Section]:
    """ROC, precision by recall and reliability of each class.

    Parameters
    ----------
    kept : OutOfFold
        Scores of rows that were not trained on.
    labels : Labels
        Of all rows.
    thresholds : mapping of str to mapping of str to float
        By class: those that are marked, by what they are called.
    calibrated : bool
        Whether the scores are said to be probabilities.
    """
    plots = pictures()
    if plots is None:
        return [Section("Curves", NO_PICTURES)]
    found = []
    for name in labels.scored_classes[:MOST_CLASSES]:
        rows, scores = kept.of(name)
        truth = labels.indicator(name)[rows]
        if not 0 < truth.sum() < len(truth):
            continue
        marks = thresholds.get(name, {})
        title = shown(name, _TITLE)  # the heading has all of it
        told = {"thresholds": marks, "title": title}
        reliability = plots.reliability_picture(
            truth, scores, n_bins=min(10, max(2, len(truth) // 20)), title=title
        )
        balanced = (
            "On the dashed line, probabilities say how often the class is there."
            if calibrated
            else "Scores of an evaluation are of balanced classes and not calibrated, so that they "
            "need not lie on the dashed line; train calibrates."
        )
        found.append(
            Section(
                f"Curves of {name}",
                f"{len(truth):,} rows that were not trained on, {int(truth.sum()):,} with the "
                f"class{'; thresholds are marked' if marks else ''}.",
                figures=(
                    _sized(plots.roc_picture(truth, scores, **told), "ROC.", _SMALL),
                    _sized(
                        plots.precision_recall_picture(truth, scores, **told),
                        "Precision by recall.",
                        _SMALL,
                    ),
                    _sized(
                        reliability,
                        f"Reliability, in bins of equally many rows. {balanced}",
                        _SMALL,
                    ),
                ),
            )
        )
    left_out = len(labels.scored_classes) - MOST_CLASSES
    if left_out > 0:
        found.append(Section("Other classes", f"Curves of {left_out} more classes are not drawn."))
    return found


def wide(figure: Any, caption: str) -> Figure:
    """A picture as wide as the page."""
    return _sized(figure, caption, _WIDE)


def made_of(
    command: str, name: str, sha256: str, n_rows: int, provenance: Provenance, **told: object
) -> dict[str, str]:
    """What one needs to make a report again.

    Parameters
    ----------
    command : str
        As it was given.
    name, sha256, n_rows : str, str, int
        Of the data.
    provenance : Provenance
        Of the features.
    **told
        More of it, by name.
    """
    versions = {**library_versions(), "scikit-learn": metadata.version("scikit-learn")}
    return {
        "command": command,
        "data": f"{name}, {n_rows:,} rows",
        "sha256 of the data": sha256 or "none: it was no single file",
        "model": f"{provenance.model} ({provenance.dtype})",
        "sha256 of the weights": provenance.weights_sha256,
        **{key.replace("_", " "): str(value) for key, value in told.items()},
        "versions": ", ".join(f"{library} {version}" for library, version in versions.items()),
    }


def columns_of(layers: Sequence[int], features: Sequence[str]) -> str:
    """How many features of how many layers."""
    return f"{len(features):,} of each of {len(layers):,} layers"


def _sized(figure: Any, caption: str, size: Mapping[str, int]) -> Figure:
    return Figure(figure.update_layout(**size), caption)
