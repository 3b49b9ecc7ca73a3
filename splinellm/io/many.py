"""Several text files, one after the other, as if they were one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from splinellm.io.checks import check_columns, require_same_columns
from splinellm.io.csv_types import CellScan
from splinellm.io.json_columns import ColumnScan
from splinellm.io.jsonl_reader import JsonlSource, schema_of
from splinellm.io.partitions import partition_types, typed
from splinellm.io.rows import ReadOptions, RecordChunk
from splinellm.io.text_readers import RowSource

if TYPE_CHECKING:
    from splinellm.io.inputs import Input, InputFile


class ManySource:
    """Rows of several text files of one format.

    A column has the type that all its values in all files have. Chunks never go over the end of a
    file, so that rows are numbered in theirs.

    Parameters
    ----------
    given : Input
        The files.
    open_file : callable
        Opens one of them; files are opened one at a time.
    options : ReadOptions
        How they are to be read.
    """

    def __init__(
        self,
        given: Input,
        open_file: Callable[[InputFile, ReadOptions], RowSource],
        options: ReadOptions,
    ) -> None:
        self.name = given.shown
        self.n_read = 0
        self.n_before = 0
        self._files = given.files
        self._open_file = open_file
        self._options = options
        self._sizes = [file.size() for file in given.files]
        self._place: tuple[int, RowSource | None] = (0, None)
        self._types: dict[str, pa.DataType] | None = None
        self._names: Sequence[str] = ()
        self._has_header = True
        self._added = self._partition_types(given)
        self._constants = [typed(file.partition, self._added) for file in given.files]
        self._check_files()

    def _opened(self, file: InputFile) -> RowSource:
        wanted = self._options.columns  # of which some may be the folders'
        if wanted is None:
            return self._open_file(file, self._options)
        own = [name for name in wanted if name not in self._added]
        return self._open_file(file, replace(self._options, columns=own))

    def _partition_types(self, given: Input) -> dict[str, pa.DataType]:
        found = partition_types([file.partition for file in given.files])
        are_text = given.kind is not None and given.kind.has_delimiter
        is_typed = self._options.is_typed
        return {
            name: kind if not are_text or (is_typed is not None and is_typed(name)) else pa.string()
            for name, kind in found.items()
            if self._options.keeps(name)
        }

    def _check_files(self) -> None:
        """Open each, to fail before a model is loaded: all have the columns of the first."""
        for file, constants in zip(self._files, self._constants, strict=True):
            with closing(self._opened(file)) as source:
                names = source.column_names()
            self._has_header = names is not None
            if constants:
                text = [] if self._options.text_column is None else [self._options.text_column]
                known = [*(text if names is None else names), *constants]
                check_columns(str(file), known, self._options, are_all=names is not None)
            names = [*(names or ()), *constants]
            self._names = self._names or names
            require_same_columns(str(file), names, str(self._files[0]), self._names)

    def schema(self) -> pa.Schema:
        """Columns of all files; reads them if only that tells."""
        if self._has_header:
            types = {**dict.fromkeys(self._names, pa.string()), **self.types(), **self._added}
            return pa.schema(list(types.items()))
        scan = ColumnScan()
        for file, constants in zip(self._files, self._constants, strict=True):
            with closing(self._opened(file)) as source:
                if isinstance(source, JsonlSource):
                    source.scan_columns(scan, constants)
        return schema_of(scan, self.name, self._options)

    def types(self) -> dict[str, pa.DataType]:
        """Columns of CSV that are more than text, in all files."""
        if self._types is None:
            scan: CellScan | None = None
            for file in self._files:
                with closing(self._opened(file)) as source:
                    scan = source.new_scan() if scan is None else scan
                    if scan is None or source.scan_cells(scan):
                        break
            self._types = {} if scan is None else scan.types()
        return self._types

    def chunks(self) -> Iterator[RecordChunk]:
        """Rows of one file after the other."""
        self.n_read = 0
        types = self.types()
        missing: set[str] | None = None
        for number, file in enumerate(self._files):
            with closing(self._opened(file)) as source:
                self._place = number, source
                source.use_types(types)
                for chunk in source.chunks():
                    self.n_read += len(chunk)
                    yield chunk.extended(self._constants[number])
                found = source.missing_columns()
                if found is not None:
                    missing = found if missing is None else missing & found
        self._place = len(self._files), None
        if missing:
            listed = ", ".join(f"'{name[:40]}'" for name in sorted(missing))
            warnings.warn(f"'{self.name}': no row has column {listed}", stacklevel=2)

    def tell(self) -> None:
        """Warn of what was noticed in the file that is being read."""
        if self._place[1] is not None:
            self._place[1].tell()

    def progress(self) -> float | None:
        """Share of the bytes that were read."""
        total, (number, source) = sum(self._sizes), self._place
        if not total:
            return 1.0
        within = 0.0 if source is None else (source.progress() or 0.0) * self._sizes[number]
        return (sum(self._sizes[:number]) + within) / total

    def close(self) -> None:
        """Close the file that is being read."""
        if self._place[1] is not None:
            self._place[1].close()
