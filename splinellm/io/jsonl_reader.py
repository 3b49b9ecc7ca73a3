"""Reader of JSON lines: an object a line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from splinellm import strict_json
from splinellm.io.checks import check_columns, check_text
from splinellm.io.json_columns import ColumnScan
from splinellm.io.rows import Problem, ReadOptions, Row
from splinellm.io.text_readers import BLANK_LINE, RowSource, bad_encoding, raw_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from splinellm.io.byte_stream import ByteStream

_DEEPEST = 200
"""Levels of nesting; what is nested more deeply might be read, but not written again."""


class JsonlSource(RowSource):
    """An object a line; objects may have different keys.

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

    def schema(self) -> pa.Schema:
        """Scan the whole file for the keys of the good rows and the types of their values."""
        self.stream.make_rereadable()
        scan = ColumnScan()
        for row in self.rows():
            if row.problem is None and row.values is not None:
                scan.observe(row.values)
        schema = scan.schema()
        if not schema.names:  # no good row, so no columns but the one that there should have been
            text = self.options.text_column
            return pa.schema([] if text is None else [pa.field(text, pa.string())])
        check_columns(self.name, schema.names, self.options)
        return schema

    def rows(self) -> Iterator[Row]:
        """One row per line."""
        for number, line in enumerate(self.stream.lines(), 1):
            if not line.strip():
                yield Row(number, None, raw_text(line), len(line), BLANK_LINE)
                continue
            try:
                values = parse_object(line)
            except UnicodeDecodeError as error:
                yield Row(number, None, raw_text(line), len(line), bad_encoding(error))
            except (ValueError, RecursionError) as error:
                problem = Problem("invalid_json", _explain(error))
                yield Row(number, None, raw_text(line), len(line), problem)
            else:
                yield Row(number, values, "", len(line), self._check(values, line))

    def _check(self, values: dict[str, Any], line: bytes) -> Problem | None:
        problem = check_text(values, self.options.text_column) or _surrogate_column(values, line)
        if problem is not None:
            return problem
        if taken := next(filter(self.options.is_reserved, values), None):
            if not self._accepted:  # the first good row speaks for the file
                check_columns(self.name, list(values), self.options)
            return Problem("reserved_column", f"column '{taken}' is one that the output adds")
        self._accepted = True
        return None


def parse_object(line: bytes) -> dict[str, Any]:
    """Parse a line of strict JSON.

    Raises
    ------
    ValueError
        The line is not JSON, not an object, or says something that would be lost: a key twice, a
        number that is not finite.
    RecursionError
        The object is nested too deeply.
    """
    values = strict_json.loads(line.decode("utf-8"), max_depth=_DEEPEST, unique_keys=True)
    if not isinstance(values, dict):
        kind = {list: "an array", str: "a string", type(None): "null"}.get(type(values), "a number")
        kind = "true or false" if isinstance(values, bool) else kind
        raise ValueError(f"expected a JSON object, got {kind}")  # noqa: TRY004 (json's own errors are ValueErrors)
    return values


def _explain(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "JSON is nested too deeply"
    if isinstance(error, json.JSONDecodeError):
        return f"invalid JSON: {error.msg} at character {error.pos}"
    if "digits" in str(error):  # Python's own wording speaks of sys.set_int_max_str_digits
        return "a whole number has too many digits"
    return str(error)


def _surrogate_column(values: dict[str, Any], line: bytes) -> Problem | None:
    # The line is valid UTF-8, so that only an escape can have made a lone surrogate.
    if b"\\ud" not in line.lower():
        return None
    for name, value in values.items():
        try:
            json.dumps([name, value], ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            shown = name.encode("utf-8", "replace").decode()[:80]
            return Problem("invalid_encoding", f"column '{shown}' has a lone surrogate")
    return None
