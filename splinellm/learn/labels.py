"""Labels: from the columns of a file to one task that every estimator understands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from splinellm.errors import ConfigurationError, LabelError

Kind = Literal["binary", "multiclass", "multilabel"]

_NEGATIVE = {"0", "false", "no"}
_POSITIVE = {"1", "true", "yes"}
MIN_ROWS_PER_CLASS = 10


@dataclass(frozen=True, eq=False)
class Labels:
    """What is to be learnt of N rows.

    Parameters
    ----------
    kind : {"binary", "multiclass", "multilabel"}
        ``multilabel`` has several yes-or-no columns, the others one column with classes.
    classes : tuple of str
        Sorted class names; for ``multilabel`` the column names as given. The second class of a
        binary task is the positive one.
    values : ndarray
        Class indices, shape (N,), int64; for ``multilabel`` zeros and ones, shape (N, C).
    """

    kind: Kind
    classes: tuple[str, ...]
    values: np.ndarray

    @classmethod
    def from_columns(
        cls, columns: dict[str, Sequence[Any]], *, positive: str | None = None
    ) -> Labels:
        """Read label columns.

        Parameters
        ----------
        columns : dict of str to sequence
            One column of class names (numbers and booleans count as their text), or several
            columns of 0/1, true/false or yes/no.
        positive : str, optional
            Of one column, the label of the positive class; all others are the negative one.

        Raises
        ------
        LabelError
            A label is missing or of the wrong kind, or a class has too few rows to learn from.
        """
        if not columns:
            raise ConfigurationError("no label column was named")
        if len(columns) == 1:
            ((name, raw),) = columns.items()
            texts = [_text(value, name, row) for row, value in enumerate(raw, 1)]
            classes = tuple(sorted(set(texts)))
            if positive is not None:
                flags = positive_flags(raw, positive, name)
                others = [label for label in classes if label != positive]
                classes = (others[0] if len(others) == 1 else f"not {positive}", positive)
                texts = [classes[flag] for flag in flags]
            if len(classes) < 2:
                raise LabelError(f"column '{name}' has one class only: {', '.join(classes)[:80]}")
            if len(classes) > max(50, len(texts) // MIN_ROWS_PER_CLASS):
                raise LabelError(f"column '{name}' has {len(classes)} classes; is it a label?")
            index = {label: position for position, label in enumerate(classes)}
            values = np.array([index[text] for text in texts], np.int64)
            labels = cls("binary" if len(classes) == 2 else "multiclass", classes, values)
        else:
            if positive is not None:
                raise ConfigurationError(
                    f"'{positive[:40]}' cannot be the positive label of {len(columns)} columns",
                    hint="each column is a label of its own there, of 0 and 1",
                )
            values = np.array(
                [
                    [read_flag(v, name, row) for row, v in enumerate(raw, 1)]
                    for name, raw in columns.items()
                ],
                np.int64,
            ).T
            labels = cls("multilabel", tuple(columns), values)
        labels.require_enough()
        return labels

    @classmethod
    def from_indices(cls, target: np.ndarray) -> Labels:
        """Wrap class indices, shape (N,), where only their strata matter."""
        return cls("multiclass", tuple(str(c) for c in range(int(target.max()) + 1)), target)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: np.ndarray) -> Labels:
        """Select rows."""
        return Labels(self.kind, self.classes, self.values[rows])

    @property
    def scored_classes(self) -> tuple[str, ...]:
        """Classes that get a score of their own: the positive one of a binary task, else all."""
        return self.classes[1:] if self.kind == "binary" else self.classes

    def indicator(self, name: str) -> np.ndarray:
        """Whether each row has the class `name`, shape (N,), int64: one against the rest."""
        position = self.classes.index(name)
        if self.kind == "multilabel":
            return np.asarray(self.values[:, position])
        return np.asarray(self.values == position, np.int64)

    def strata(self) -> np.ndarray:
        """One integer per row for stratified splits; rare label combinations are merged."""
        if self.kind != "multilabel":
            return self.values
        # Stratify by the rarest label that a row has: the common ones spread by themselves.
        order = np.argsort(self.values.sum(axis=0))
        strata = np.full(len(self), len(self.classes), np.int64)
        for position in order[::-1]:
            strata[self.values[:, position] == 1] = position
        return strata

    def require_enough(self) -> None:
        """Refuse classes with fewer than ten rows, or (yes-or-no) fewer than ten without."""
        counts = {name: int(self.indicator(name).sum()) for name in self.classes}
        if self.kind == "multilabel":
            counts |= {f"no {name}": len(self) - count for name, count in counts.items()}
        for name, count in counts.items():
            if count < MIN_ROWS_PER_CLASS:
                raise LabelError(
                    f"class '{name}' has {count} of {len(self)} rows",
                    hint=f"at least {MIN_ROWS_PER_CLASS} are needed",
                )


def positive_flags(values: Sequence[Any], positive: str, name: str) -> list[int]:
    """Tell which rows of a column have the positive label; all others are of the other class.

    Raises
    ------
    LabelError
        A row has no label, or none or all of them have the positive one.
    """
    texts = [_text(value, name, row) for row, value in enumerate(values, 1)]
    found = sorted(set(texts))
    if positive not in found or len(found) == 1:
        how_many = "every" if positive in found else "no"
        told = ", ".join(f"'{text[:40]}'" for text in found[:20])
        raise LabelError(
            f"{how_many} row has the label '{positive[:40]}'",
            hint=f"its labels are {told or 'none'}",
        )
    return [int(text == positive) for text in texts]


def class_indices(kind: Kind, classes: Sequence[str], given: Any) -> np.ndarray:
    """Read labels as given classes, or 0/1, true/false, yes/no of two.

    Parameters
    ----------
    kind : {"binary", "multiclass", "multilabel"}
        Of the task.
    classes : sequence of str, C of them
        In their order; the second of two is the positive one.
    given : array-like, shape (N,) or (N, C)
        A class each, or of several labels a flag each.

    Returns
    -------
    ndarray, shape (N,), or (N, C) of zeros and ones, int64

    Raises
    ------
    LabelError
        One is none of these; lists the classes.
    """
    rows = np.asarray(given, object).tolist()
    if not isinstance(rows, list):
        raise LabelError(f"expected a label for each row, got {type(given).__name__}")
    read = _flags if kind == "multilabel" else _class
    # What is written the same way is read once: of a million labels there are few.
    known: dict[str, Any] = {}
    values: list[Any] = []
    for number, value in enumerate(rows, 1):
        key = repr(value)
        if key not in known:
            known[key] = read(kind, classes, value, number)
        values.append(known[key])
    return np.array(values, np.int64)


def _class(kind: Kind, classes: Sequence[str], value: Any, row: int) -> int:
    text = str(value.item() if isinstance(value, np.generic) else value)
    if text in classes:
        return classes.index(text)
    may_be_flags = kind == "binary" and all(
        (name not in _NEGATIVE or place == 0) and (name not in _POSITIVE or place == 1)
        for place, name in enumerate(map(str.lower, classes))
    )  # of classes 1 and 2, a 1 is the first
    try:
        plain = _text(value, "labels", row)
        if plain in classes:
            return classes.index(plain)
        if may_be_flags:
            return read_flag(value, "labels", row)
    except LabelError:
        pass
    known = f"{', '.join(classes[:-1])} and {classes[-1]}"
    raise LabelError(
        f"row {row} has the label '{text[:40]}'",
        hint=f"labels are {known}{', or 0 and 1' if may_be_flags else ''}",
    )


def _flags(_kind: Kind, classes: Sequence[str], values: Any, row: int) -> list[int]:
    if not isinstance(values, list) or len(values) != len(classes):
        raise LabelError(f"row {row} needs {len(classes)} flags", hint=f"of {', '.join(classes)}")
    return [read_flag(value, name, row) for name, value in zip(classes, values, strict=True)]


def _text(value: Any, name: str, row: int) -> str:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    # However a program spells it: rows without a label must not become a class.
    if isinstance(value, (str, int, float)) and str(value).strip().lower() not in ("", "nan"):
        return str(value)
    raise LabelError(f"row {row} has no label in column '{name}'")


def read_flag(value: Any, name: str, row: int) -> int:
    """Read a flag of a row, counted from 1: 0/1, true/false or yes/no."""
    text = _text(value, name, row).strip().lower()
    if text in _POSITIVE:
        return 1
    if text in _NEGATIVE:
        return 0
    raise LabelError(
        f"row {row} has '{text[:40]}' in column '{name}'",
        hint="with several label columns each must hold 0/1, true/false or yes/no",
    )
