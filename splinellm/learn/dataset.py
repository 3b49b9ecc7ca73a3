"""Labelled data from a file: texts, or the table that ``splinellm extract`` made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from splinellm.backbone.cache import file_sha256
from splinellm.errors import InputFileError, RowError
from splinellm.io.readers import open_source
from splinellm.learn.labels import Labels
from splinellm.provenance import sidecar
from splinellm.table import PROVENANCE_KEY, FeatureTable


@dataclass(frozen=True, eq=False)
class Dataset:
    """Rows of a labelled file.

    Parameters
    ----------
    name : str
        File name, for the card.
    sha256 : str
        Of the file; empty for a folder or standard input.
    columns : dict of str to list
        All input columns.
    texts : list of str or None
        None if an extracted table no longer has them.
    table : FeatureTable or None
        If the file is an extracted table.
    n_skipped : int
        Bad rows that were left out.
    """

    name: str
    sha256: str
    columns: dict[str, list[Any]]
    texts: list[str] | None
    table: FeatureTable | None
    n_skipped: int = 0

    def column(self, name: str) -> list[Any]:
        """Values of a column.

        Raises
        ------
        InputFileError
            There is no such column; names those there are.
        """
        if name not in self.columns:
            found = ", ".join(f"'{column[:40]}'" for column in list(self.columns)[:20])
            raise InputFileError(f"'{self.name}' has no column '{name[:80]}', only: {found}")
        return self.columns[name]

    def labels(self, names: Sequence[str]) -> Labels:
        """Read label columns; see :meth:`splinellm.learn.labels.Labels.from_columns`."""
        return Labels.from_columns({name: self.column(name) for name in names})

    def describe(self) -> dict[str, Any]:
        """Summarise for a classifier's card."""
        n_rows = len(next(iter(self.columns.values()), []))
        return {"name": self.name, "rows": n_rows, "sha256": self.sha256}


def read_dataset(
    path: str, *, text_column: str = "text", on_error: Literal["fail", "skip"] = "fail"
) -> Dataset:
    """Read a labelled file into memory.

    Parameters
    ----------
    path : str
        Anything that ``splinellm extract`` reads, or what it wrote as Parquet, CSV or JSONL.
    text_column : str
        Column that holds the texts.
    on_error : {"fail", "skip"}
        What happens at a row without a usable text.

    Raises
    ------
    InputFileError, RowError, TableFormatError
        The file, a row of it, or its features cannot be used.
    """
    digest = file_sha256(Path(path)) if Path(path).is_file() else ""
    extracted = _read_extracted(path)
    if extracted is not None:
        table = FeatureTable.from_arrow(extracted)
        others = extracted.select([n for n in extracted.column_names if n not in table.names])
        columns = {name: others[name].to_pylist() for name in others.column_names}
        return Dataset(Path(path).name, digest, columns, columns.get(text_column), table)
    records: list[dict[str, Any]] = []
    skipped = 0
    with closing(open_source(path, text_column=text_column)) as source:
        for chunk in source.chunks():
            for position, problem in sorted(chunk.problems.items()):
                if on_error == "fail":
                    raise RowError(
                        problem.reason,
                        source=chunk.source,
                        row=chunk.number(position),
                        reason_code=problem.code,
                    )
                skipped += 1
            good = [i for i in range(len(chunk)) if i not in chunk.problems]
            records.extend(chunk.take(good).records())
    names = dict.fromkeys(name for record in records for name in record)
    columns = {name: [record.get(name) for record in records] for name in names}
    return Dataset(Path(path).name, digest, columns, columns.get(text_column), None, skipped)


def _read_extracted(path: str) -> pa.Table | None:
    """Read a file that carries its features, or return None if it does not."""
    file = Path(path)
    if file.suffix == ".parquet" and file.is_file():
        try:
            metadata = pa.parquet.read_schema(file).metadata or {}
            return pa.parquet.read_table(file) if PROVENANCE_KEY in metadata else None
        except (pa.ArrowInvalid, OSError) as error:
            raise InputFileError(f"'{path}' cannot be read as Parquet: {error}") from error
    readers: dict[str, Callable[[Path], pa.Table]] = {
        ".csv": pa.csv.read_csv,
        ".jsonl": pa.json.read_json,
    }
    if file.suffix in readers and sidecar(file).is_file():
        table = readers[file.suffix](file)
        return table.replace_schema_metadata({PROVENANCE_KEY: sidecar(file).read_bytes()})
    return None
