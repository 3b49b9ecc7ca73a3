"""Reader of JSON: an object a line, a list of objects, or objects that span lines."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from splinellm import strict_json
from splinellm.io.checks import check_columns, check_text
from splinellm.io.json_columns import ColumnScan, finite
from splinellm.io.json_document import is_document, items
from splinellm.io.rows import Problem, ReadOptions, Row
from splinellm.io.text_readers import BLANK_LINE, RowSource, raw_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from splinellm.io.byte_stream import ByteStream

_DEEPEST = 200
"""Levels of nesting; what is nested more deeply might be read, but not written again."""
_WORDS = {list: "an array", str: "a string", bool: "true or false", type(None): "null"}
_NO_NUMBERS = {"NaN": "nan", "Infinity": "inf", "-Infinity": "-inf"}


class JsonlSource(RowSource):
    """An object a line; objects may have different keys.

    A file that is one list of objects, or objects that span lines, is read as well, but whole.
    NaN and infinities, which other programs write though JSON has no such thing, become null, and
    are told of at the end; in place of a text they make a bad row. So are numbers with more digits
    than a float holds, which are rounded.

    Parameters
    ----------
    stream : ByteStream
        Where the bytes come from.
    options : ReadOptions
        How they are to be read.
    """

    def __init__(self, stream: ByteStream, options: ReadOptions) -> None:
        super().__init__(stream, options)
        self._accepted = False
        self._is_whole = True
        self._decoder = strict_json.decoder(
            unique_keys=True, on_constant=self._note_constant, on_rounded=self._note_rounded
        )
        self._has_constant = self._has_rounded = False
        self._nulled: Counter[str] = Counter()
        self._rounded: Counter[str] = Counter()
        self._missing = set(options.columns or ())

    def _note_constant(self, name: str) -> float:
        self._has_constant = True
        return float(_NO_NUMBERS[name])

    def _note_rounded(self) -> None:
        self._has_rounded = True

    def schema(self) -> pa.Schema:
        """Scan the whole file for the keys of the good rows and the types of their values."""
        self.stream.make_rereadable()
        scan = ColumnScan()
        self.scan_columns(scan)
        return schema_of(scan, self.name, self.options)

    def scan_columns(self, scan: ColumnScan, constants: Mapping[str, Any] | None = None) -> None:
        """Take all good rows into account, with columns that have one value in all of them."""
        for row in self.rows():
            if row.problem is None and row.values is not None:
                scan.observe({**row.values, **constants} if constants else row.values)

    def rows(self) -> Iterator[Row]:
        """One row per line, or per object."""
        self._nulled.clear()
        self._rounded.clear()
        lines = self.stream.lines()
        begin: list[bytes] = []
        if is_document(lines, begin):
            return self._rows_of_document(chain(begin, lines))
        return self._rows_of_lines(chain(begin, lines))

    def tell(self) -> None:
        """Warn of what became null or was rounded, and of wanted columns that were in no row."""
        for changed, what in (
            (self._nulled, "NaN and infinities are no JSON and became null"),
            (self._rounded, "numbers with more digits than a float holds were rounded"),
        ):
            if changed:
                counts = ", ".join(f"{n:,} in column '{name[:40]}'" for name, n in changed.items())
                warnings.warn(f"'{self.name}': {what}: {counts}", stacklevel=2)
        if self._is_whole and (missing := self.missing_columns()):
            listed = ", ".join(f"'{name[:40]}'" for name in sorted(missing))
            warnings.warn(f"'{self.name}': no row has column {listed}", stacklevel=2)

    def use_types(self, types: dict[str, pa.DataType]) -> None:  # noqa: ARG002 (JSON has its own)
        """Note that this is one of several files: a column may be in another."""
        self._is_whole = False

    def missing_columns(self) -> set[str] | None:
        """Columns that are wanted, and that no good row had; None without one."""
        return set(self._missing) if self._accepted else None

    def _rows_of_lines(self, lines: Iterator[bytes]) -> Iterator[Row]:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                yield Row(number, None, raw_text(line), len(line), BLANK_LINE)
                continue
            try:
                values = self._parse(line.decode("utf-8"))
            except UnicodeDecodeError as error:
                yield Row(number, None, raw_text(line), len(line), self.bad_encoding(error))
            except (ValueError, RecursionError) as error:
                problem = Problem("invalid_json", explain(error))
                yield Row(number, None, raw_text(line), len(line), problem)
            else:
                # The line is valid UTF-8: only an escape can have made a lone surrogate.
                may_be_broken = b"\\ud" in line or b"\\uD" in line
                yield self._row(number, values, len(line), may_be_broken=may_be_broken)

    def _parse(self, line: str) -> Any:
        try:
            value = self._decoder.decode(line)
        except json.JSONDecodeError as error:
            # One comma after an object: a list whose brackets were lost.
            if error.msg != "Extra data" or line[error.pos :].strip() != ",":
                raise
            value = self._decoder.decode(line[: error.pos])
        strict_json.check_depth(value, line.count("[") + line.count("{"), _DEEPEST)
        return _require_object(value)

    def _rows_of_document(self, lines: Iterator[bytes]) -> Iterator[Row]:
        for number, text, value in items(self.name, lines, self._decoder):
            try:
                if isinstance(value, ValueError):
                    raise value
                strict_json.check_depth(value, text.count("[") + text.count("{"), _DEEPEST)
                values = _require_object(value)
            except (ValueError, RecursionError) as error:
                yield Row(number, None, text, len(text), Problem("invalid_json", explain(error)))
            else:
                may_be_broken = not text.isascii() or "\\ud" in text.lower()
                yield self._row(number, values, len(text), may_be_broken=may_be_broken)

    def _row(
        self, number: int, values: dict[str, Any], n_bytes: int, *, may_be_broken: bool
    ) -> Row:
        if self.options.columns is not None:
            values = {name: value for name, value in values.items() if self.options.keeps(name)}
        nulled: list[str] = []
        if self._has_constant:
            self._has_constant = False
            plain = {name: finite(value) for name, value in values.items()}
            nulled = [name for name, value in values.items() if plain[name] != value]
            values = plain
        rounded: list[str] = []
        if self._has_rounded:
            self._has_rounded = False
            rounded = [name for name, value in values.items() if _is_rounded(value)]
        problem = self._check(values, nulled, may_be_broken=may_be_broken)
        if problem is None:
            self._nulled.update(nulled)
            self._rounded.update(rounded)
            if self._missing:
                self._missing -= values.keys()
        return Row(number, values, "", n_bytes, problem)

    def _check(
        self, values: dict[str, Any], nulled: list[str], *, may_be_broken: bool
    ) -> Problem | None:
        text = self.options.text_column
        if text in nulled:
            return Problem("invalid_prompt", f"column '{text}': expected text, got NaN or infinity")
        problem = check_text(values, self.options)
        if problem is None and may_be_broken:
            problem = _surrogate_column(values)
        if problem is not None:
            return problem
        if taken := next(filter(self.options.is_reserved, values), None):
            if not self._accepted:  # the first good row speaks for the file
                check_columns(self.name, list(values), self.options, are_all=False)
            return Problem("reserved_column", f"column '{taken}' is one that the output adds")
        self._accepted = True
        return None


def _is_rounded(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_is_rounded, value.values()))
    if isinstance(value, list):
        return any(map(_is_rounded, value))
    return isinstance(value, strict_json.RoundedFloat)


def schema_of(scan: ColumnScan, name: str, options: ReadOptions) -> pa.Schema:
    """Columns that a scan of good rows has found, in one file or several."""
    schema = scan.schema()
    if not schema.names:  # no good row, so no columns but the one that there should have been
        text = options.text_column
        return pa.schema([] if text is None else [pa.field(text, pa.string())])
    check_columns(name, schema.names, options)
    return schema


def _require_object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        kind = _WORDS.get(type(value), "a number")
        raise ValueError(f"expected a JSON object, got {kind}; a row is one object per line")  # noqa: TRY004 (json's own errors are ValueErrors)
    return value


def explain(error: Exception) -> str:
    """Say in one line why something is not the JSON of a row, without quoting it."""
    if isinstance(error, RecursionError):
        return "JSON is nested too deeply"
    if isinstance(error, json.JSONDecodeError):
        if error.msg == "Extra data":
            return f"one object per line, but more comes after it at character {error.pos}"
        return f"invalid JSON: {error.msg} at character {error.pos}"
    if "digits" in str(error):  # Python's own wording speaks of sys.set_int_max_str_digits
        return "a whole number has too many digits"
    return str(error)


def _surrogate_column(values: dict[str, Any]) -> Problem | None:
    for name, value in values.items():
        try:
            json.dumps([name, value], ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            shown = name.encode("utf-8", "replace").decode()[:80]
            return Problem("invalid_encoding", f"column '{shown}' has a lone surrogate")
    return None
