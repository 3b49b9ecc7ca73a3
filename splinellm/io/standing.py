"""What stands where an output goes: it is not replaced by less, or by something else, unasked."""

from __future__ import annotations

import warnings
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from splinellm.errors import OutputError, SplineLLMError
from splinellm.io.arrow_types import is_text
from splinellm.io.columnar import ColumnarSource
from splinellm.io.formats import output_format
from splinellm.io.readers import open_source
from splinellm.io.remote import size_of
from splinellm.schema import is_feature_column
from splinellm.table import is_own_column

if TYPE_CHECKING:
    from collections.abc import Sequence

    from splinellm.io.remote import Location
    from splinellm.io.rows import Chunk, Source

_HINT = "--force replaces it"


@dataclass(frozen=True)
class Standing:
    """An output of an earlier run.

    Parameters
    ----------
    path : Path or RemotePath
        Where it is.
    shown : str
        The same, as the user would name it.
    names : tuple of str
        Its columns; of an archive of arrays, the features.
    types : mapping of str to pa.DataType, optional
        Of the columns, if the format has such.
    """

    path: Location
    shown: str
    names: tuple[str, ...]
    types: dict[str, pa.DataType] | None = None

    @classmethod
    def at(cls, path: Location, shown: str) -> Standing | None:
        """Look at what is there; None if it is nothing, or empty.

        Raises
        ------
        OutputError
            It is nothing that could be written here.
        """
        if not path.is_file() or size_of(path) == 0:
            return None
        try:
            if output_format(str(path)).features_only:
                with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                    return cls(path, shown, tuple(archive["names"].tolist()))
            with closing(_opened(path)) as source:
                if isinstance(source, ColumnarSource):
                    schema = source.schema()
                    types = dict(zip(schema.names, schema.types, strict=True))
                    return cls(path, shown, tuple(schema.names), types)
                names = _names(source, has_header=output_format(str(path)).has_header)
                return None if names is None else cls(path, shown, names)
        except (SplineLLMError, OSError, ValueError, KeyError, EOFError) as error:
            raise OutputError(
                f"'{shown}' is there, and is nothing that extract or predict wrote",
                hint=_HINT,
            ) from error

    def count(self) -> int:
        """Count its rows."""
        if output_format(str(self.path)).features_only:
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                return len(archive["n_tokens"])
        with closing(_opened(self.path)) as source, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the run that wrote it
            return sum(map(len, source.chunks()))

    def require_columns(self, columns: pa.Schema | None, added: pa.Schema) -> None:
        """Refuse to replace it by other columns.

        Parameters
        ----------
        columns : pa.Schema or None
            Of the input; None if nobody knows them yet.
        added : pa.Schema
            Columns that the run adds.

        Raises
        ------
        OutputError
            Names the first difference.
        """
        if output_format(str(self.path)).features_only:
            difference = _difference(self.names, list(filter(is_feature_column, added.names)))
        elif columns is None:
            mine = [name for name in self.names if name in added.names or is_own_column(name)]
            difference = _difference(mine, added.names)
        else:
            difference = _difference(self.names, [*columns.names, *added.names])
            difference = difference or self._other_type([*columns, *added])
        if difference:
            raise OutputError(
                f"'{self.shown}' is there with other columns: {difference}", hint=_HINT
            )

    def _other_type(self, fields: Sequence[pa.Field]) -> str | None:
        for field in fields if self.types is not None else ():
            was = (self.types or {})[field.name]
            if _family(was) != _family(field.type):
                return f"'{field.name[:80]}' is {was}, and would be {field.type}"
        return None

    def require_rows(self, n_rows: int) -> None:
        """Refuse to replace it by fewer rows.

        Raises
        ------
        OutputError
            It has more.
        """
        if (n_before := self.count()) > n_rows:
            raise OutputError(
                f"'{self.shown}' is there with {n_before:,} rows, and would have {n_rows:,}",
                hint=_HINT,
            )


def _family(kind: pa.DataType) -> str:
    """What a type is for; formats give some types back as others of the same use."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if is_text(kind):
        return "text"
    for name in ("temporal", "nested", "binary", "large_binary", "binary_view"):
        if getattr(pa.types, f"is_{name}")(kind):
            return name.rpartition("large_")[2].removesuffix("_view")
    return str(kind)


def _opened(path: Location) -> Source[Chunk]:
    return open_source(
        str(path), text_column=None, is_reserved=lambda _name: False, csv_types="text"
    )


def _names(source: Source[Chunk], *, has_header: bool) -> tuple[str, ...] | None:
    """Columns of a text file; of JSON lines, those of the first row."""
    if has_header:
        return tuple(source.schema().names)
    chunk = next(iter(source.chunks()), None)
    if chunk is None:
        return None
    good = next((i for i in range(len(chunk)) if i not in chunk.problems), None)
    if good is None:
        raise ValueError("no row is one")
    return tuple(chunk.take([good]).records()[0])


def _difference(before: Sequence[str], now: Sequence[str]) -> str | None:
    known = set(now)  # of a thousand columns
    if gone := next((name for name in before if name not in known), None):
        return f"'{gone[:80]}' would be gone"
    known = set(before)
    if new := next((name for name in now if name not in known), None):
        return f"'{new[:80]}' would be new"
    return None
