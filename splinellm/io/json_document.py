"""JSON that is not an object a line: a list of objects, or objects that span lines."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from splinellm.errors import InputFileError

if TYPE_CHECKING:
    from collections.abc import Iterator

_LARGEST_BYTES = 1 << 30
"""It is read whole, unlike lines."""
_LOOK_AHEAD_BYTES = 4 << 20
_LIST = re.compile(r"\[\s*(?:[{\[\"\]]|$)")
_BETWEEN = re.compile(r"[ \t\r\n,]*")
_LENIENT = json.JSONDecoder(parse_int=str)
"""Tells where a value ends that is JSON, but no row."""
_HINT = "one object per line is read in any size: jq -c '.[]' FILE, or jq -c . FILE"


def is_document(lines: Iterator[bytes], begin: list[bytes]) -> bool:
    """Whether a file must be read as a whole.

    Parameters
    ----------
    lines : iterator of bytes
        From the file's beginning.
    begin : list of bytes
        Gets the lines that were looked at.
    """
    first = _next_line(lines, begin)
    try:
        text = first.decode("utf-8")
        value, end = _LENIENT.raw_decode(text)
        rest = text[end:].strip()
        if isinstance(value, dict):  # one, and the next after it without a line end
            return rest.startswith(("{", ",{", ", {"))
        # A list that is all there is holds the rows; one of many lines is a bad row.
        return isinstance(value, list) and not rest and not _next_line(lines, begin)
    except UnicodeDecodeError:
        return False
    except (ValueError, RecursionError):
        pass
    if _LIST.match(text):
        return True
    return text.startswith("{") and _spans_lines(lines, begin)


def _next_line(lines: Iterator[bytes], begin: list[bytes]) -> bytes:
    """Take lines up to one that is not blank."""
    for line in lines:
        begin.append(line)
        if line.strip():
            return line.strip()
    return b""


def _spans_lines(lines: Iterator[bytes], begin: list[bytes]) -> bool:
    """Whether the first object goes on in the next lines, rather than being broken."""
    first = begin[-1].rstrip()
    # A row that is broken off is followed by the next one; do not make a slow pipe wait to see it.
    if _next_line(lines, begin).startswith(b"{") and not first.endswith((b"[", b":", b",")):
        return False
    n_bytes = 0
    for line in lines:
        begin.append(line)
        n_bytes += len(line)
        if n_bytes > _LOOK_AHEAD_BYTES:
            break
    try:
        _LENIENT.raw_decode(b"\n".join(begin).decode("utf-8", "replace").lstrip())
    except (ValueError, RecursionError):
        return False
    return True


def items(
    name: str, lines: Iterator[bytes], decoder: json.JSONDecoder
) -> Iterator[tuple[int, str, Any]]:
    """Values of a document, or of its list: number from 1, text, and value.

    The value is a ValueError where it is JSON, but not as strict as `decoder` wants it.

    Raises
    ------
    InputFileError
        The document is too large, or it is not JSON: nothing tells where its next row begins.
    """
    text = _joined(name, lines)
    position = _after_blanks(text, 0)
    is_list = text.startswith("[", position)
    number = 0
    position = _after_blanks(text, position + is_list)
    while position < len(text) and not (is_list and text[position] == "]"):
        number += 1
        try:
            value, end = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise _broken(name, number, error) from None  # the cause quotes the text
        except RecursionError:
            raise InputFileError(f"'{name}': row {number}: JSON is nested too deeply") from None
        except ValueError as error:
            value, end = error, _LENIENT.raw_decode(text, position)[1]
        yield number, text[position:end], value
        position = _after_blanks(text, end)
    if is_list and (position == len(text) or text[position + 1 :].strip()):
        what = "never ends" if position == len(text) else "is followed by something else"
        raise InputFileError(f"'{name}': the list {what}, after row {number}", hint=_HINT)


def _after_blanks(text: str, position: int) -> int:
    found = _BETWEEN.match(text, position)
    return found.end() if found else position


def _joined(name: str, lines: Iterator[bytes]) -> str:
    taken, n_bytes = [], 0
    for line in lines:
        taken.append(line)
        n_bytes += len(line) + 1
        if n_bytes > _LARGEST_BYTES:
            raise InputFileError(
                f"'{name}' is JSON of more than {_LARGEST_BYTES >> 30} GiB that is not one object "
                "per line",
                hint=_HINT,
            )
    return b"\n".join(taken).decode("utf-8", "surrogateescape")


def _broken(name: str, number: int, error: json.JSONDecodeError) -> InputFileError:
    return InputFileError(
        f"'{name}': row {number}: invalid JSON: {error.msg} at line {error.lineno}, "
        f"column {error.colno}",
        hint=f"{_HINT}; then --on-error skip can go on after a bad row",
    )
