"""Axes that count have whole numbers; curves that are far apart have a scale of powers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

_MOST_TICKS = 12
_FAR = 5.0
"""Times: curves of medians that far apart leave the lower ones flat on a linear scale."""


def whole_ticks(values: Sequence[int], most: int = _MOST_TICKS) -> dict[str, object]:
    """Ticks of an axis that counts layers, tokens or rows: never between two of them.

    Parameters
    ----------
    values : sequence of int
        What is drawn.
    most : int
        Ticks; plotly chooses where there is room for no tick between whole numbers.
    """
    reach = max(values) - min(values) if values else 0
    if reach >= most:
        return {}
    if values and not reach:  # its neighbours are not there
        return {"tickmode": "array", "tickvals": [values[0]]}
    return {"tickmode": "linear", "tick0": 0, "dtick": 1}


def power_scale(curves: Sequence[np.ndarray]) -> dict[str, object]:
    """A logarithmic axis if curves are so far apart that some would lie flat on the ground.

    Parameters
    ----------
    curves : sequence of ndarray
        What is drawn, a curve each.

    Returns
    -------
    dict
        Of an axis; empty for a linear one.
    """
    low = min(float(curve.min()) for curve in curves)
    middles = [float(np.median(curve)) for curve in curves]
    if low <= 0.0 or max(middles) < _FAR * min(middles):
        return {}
    high = max(float(curve.max()) for curve in curves)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
    return {
        "type": "log",
        "tickmode": "array",
        "tickvals": ticks,
        "ticktext": [f"{x:,g}" for x in ticks],
    }
