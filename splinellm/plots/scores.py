"""Pictures of how well features do: by rows learned from, by layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from splinellm.errors import ConfigurationError
from splinellm.learn.evaluation import Score
from splinellm.plots.axes import whole_ticks
from splinellm.plots.style import PALETTE, Theme, add_band, finish, legend_of, text_of


def learning_picture(
    sizes: Sequence[int] | np.ndarray,
    train_scores: np.ndarray,
    test_scores: np.ndarray,
    *,
    score_name: str = "ROC-AUC",
    title: str = "",
    theme: Theme = "light",
) -> go.Figure:
    """Draw scores against the number of rows learned from: mean and range over folds.

    Parameters
    ----------
    sizes : array-like, shape (S,)
        Rows.
    train_scores, test_scores : ndarray, shape (S, folds)
        As ``sklearn.model_selection.learning_curve`` gives them.
    score_name, title, theme : str
        What they are; what is written above; light or dark.

    Raises
    ------
    ConfigurationError
        The sizes do not fit.
    """
    figure = go.Figure()
    for colour, name, scores in zip(
        PALETTE, ("training rows", "held-out rows"), (train_scores, test_scores), strict=False
    ):
        array = np.atleast_2d(np.asarray(scores, np.float64))
        if len(array) != len(sizes) or not np.isfinite(array).all():
            raise ConfigurationError(f"{len(array)} rows of scores do not fit {len(sizes)} sizes")
        low, high = array.min(axis=1), array.max(axis=1)
        x = [int(size) for size in sizes]
        add_band(
            figure, x, low, array.mean(axis=1), high, colour=colour, name=name, shows_legend=True
        )
    figure.update_xaxes(title="rows learned from")
    figure.update_yaxes(title=text_of(score_name))
    told = title or "learning curve, mean and range over folds"
    return finish(figure, theme, told, height=520, width=900)


def areas_picture(
    scores: Sequence[Score],
    *,
    section: str = "layer",
    title: str = "",
    theme: Theme = "light",
) -> go.Figure:
    """Draw ROC-AUC by layer: mean and standard deviation over splits, a line a class.

    Parameters
    ----------
    scores : sequence of Score
        Of :func:`splinellm.learn.evaluation.evaluate`; those of other sections are left out.
    section : {"layer", "first layers"}
        Each layer alone, or the first k of them.
    title, theme : str
        What is written above; light or dark.

    Raises
    ------
    ConfigurationError
        There are no such scores.
    """
    found = [score for score in scores if score.section == section]
    if not found:
        raise ConfigurationError(f"there are no scores of the section '{section[:40]}'")
    figure = go.Figure()
    names = list(dict.fromkeys(score.label for score in found))
    for colour, name in zip(PALETTE, names, strict=False):
        line = [score for score in found if score.label == name]
        mean = np.array([score.mean for score in line])
        std = np.array([score.std for score in line])
        x = [int(score.item) for score in line]
        add_band(
            figure, x, mean - std, mean, np.minimum(mean + std, 1.0), colour=colour,
            name=text_of(name), shows_legend=True,
        )  # fmt: skip
    figure.update_xaxes(title="layer" if section == "layer" else "first layers")
    figure.update_xaxes(whole_ticks([int(score.item) for score in found]))
    figure.update_yaxes(title="ROC-AUC")
    left_out = f"; {len(PALETTE)} of {len(names)} classes" if len(names) > len(PALETTE) else ""
    told = title or f"ROC-AUC by {section}, mean ± standard deviation over splits{left_out}"
    return finish(figure, theme, told, height=420, width=900, legend=legend_of(names))
