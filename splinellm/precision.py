"""How exactly features are kept: as they were computed, or rounded, for smaller files.

``float32`` is what was computed. ``float16`` rounds every feature to half precision. ``uint8``
keeps sign blocks, which are shares, in 255ths, and every other feature as ``float16`` does. Numbers
are rounded once, where a table is made; what keeps them, and what reads them, is exact.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal

import numpy as np

from splinellm.errors import ConfigurationError, TableFormatError
from splinellm.schema import is_sign_block

Precision = Literal["float32", "float16", "uint8"]
PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "uint8")
"""From the finest to the coarsest."""
SCALE = 1 / 255
"""What a share that is kept as a whole number is a multiple of."""
PRECISION_KEY = b"splinellm.precision"
"""Key of what other readers need to know, in the schema metadata of Arrow and Parquet."""

_ERRORS = {
    "float16": "1 part in 2,048, and less than 0.0000001 below 0.00006",
    "uint8": "0.00197 for sign blocks; for others 1 part in 2,048, and less than 0.0000001 "
    "below 0.00006",
}


def kind_of(feature: str, precision: Precision) -> Precision:
    """Type in which a feature, named without its layer, is kept."""
    if precision == "uint8" and not is_sign_block(feature):
        return "float16"
    return precision


def largest_error(precision: Precision) -> str:
    """How far a number may be from what was computed, in words; empty if not at all."""
    return _ERRORS.get(precision, "")


def described(precision: Precision) -> bytes:
    """What other readers need to know of columns that are not ``float32``, as JSON."""
    record: dict[str, object] = {"precision": precision, "largest_error": _ERRORS[precision]}
    if precision == "uint8":
        record["uint8"] = {"scale": SCALE}
    return json.dumps(record).encode()


def rounded(values: np.ndarray, features: Sequence[str], precision: Precision) -> np.ndarray:
    """Round features to what `precision` can hold.

    Parameters
    ----------
    values : ndarray, shape (N, L * F), float32
        Layer by layer.
    features : sequence of str
        Of a layer, F of them.
    precision : {"float32", "float16", "uint8"}
        What is kept.

    Returns
    -------
    ndarray, shape (N, L * F), float32
        Infinite where a number is too large, or none that is kept so.
    """
    if precision == "float32":
        return values
    found = restored(stored(values, "float16"))
    if precision == "uint8":
        n_layers = values.shape[1] // len(features)
        shares = np.tile([is_sign_block(name) for name in features], n_layers)
        mine = values[:, shares]
        is_share = (mine >= 0) & (mine <= 1)
        found[:, shares] = np.where(is_share, restored(stored(mine, "uint8")), np.inf)
    return found


def stored(values: np.ndarray, kind: Precision) -> np.ndarray:
    """Numbers as they are kept; the nearest ones, unless they are rounded."""
    if kind == "float16":
        with np.errstate(over="ignore"):
            return values.astype(np.float16)
    if kind == "uint8":
        return np.rint(np.clip(values.astype(np.float64), 0, 1) / SCALE).astype(np.uint8)
    return values


def restored(numbers: np.ndarray) -> np.ndarray:
    """Numbers that :func:`stored` gave, or plain ones, as float32."""
    if numbers.dtype == np.uint8:
        return (numbers * SCALE).astype(np.float32)
    return numbers.astype(np.float32)


def require_coarser(now: Precision, wanted: Precision) -> None:
    """Refuse to call rounded numbers exact.

    Raises
    ------
    TableFormatError
        They are rounded to less than what is wanted.
    ConfigurationError
        There is no such precision.
    """
    if wanted not in PRECISIONS:
        raise ConfigurationError(
            f"unknown precision '{str(wanted)[:40]}'", hint=f"use {', '.join(PRECISIONS)}"
        )
    if PRECISIONS.index(now) > PRECISIONS.index(wanted):
        raise TableFormatError(
            f"the features were rounded to {now}, and cannot become {wanted}",
            hint="extract them again",
        )
