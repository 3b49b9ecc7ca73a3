"""Open an input: files of any known format, or standard input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, Literal

from splinellm.errors import ConfigurationError
from splinellm.io.byte_stream import ByteStream
from splinellm.io.encodings import check_encoding
from splinellm.io.formats import Format, format_named, input_format, is_gzipped, load
from splinellm.io.inputs import Given, Input, InputFile, find_input
from splinellm.io.many import ManySource
from splinellm.io.recognition import recognised
from splinellm.io.rows import CHUNK_ROWS, ReadOptions
from splinellm.io.shares import Share, shared
from splinellm.table import is_own_column

if TYPE_CHECKING:
    from splinellm.io.remote import Location
    from splinellm.io.rows import Chunk, Source
    from splinellm.io.text_readers import RowSource

CsvTypes = Literal["infer", "text"]


def open_source(
    path: Given,
    *,
    text_column: str | None = "text",
    format: str | None = None,  # noqa: A002 (the natural keyword)
    is_reserved: Callable[[str], bool] = is_own_column,
    chunk_rows: int = CHUNK_ROWS,
    columns: Sequence[str] | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    optional_column: str | None = None,
    share: Share | None = None,
    holds_messages: bool = False,
    csv_types: CsvTypes = "infer",
    max_wait_s: float | None = None,
) -> Source[Chunk]:
    """Open an input and check what can be checked before any model is loaded.

    Parameters
    ----------
    path : str, sequence of str or Input
        A file, a folder or a pattern, or several; or ``-`` for standard input.
    text_column : str or None
        Column that holds the prompts; what the only column of a text file is called. None if only
        the other columns are wanted.
    format : str, optional
        One of :data:`~splinellm.io.formats.INPUT_FORMATS`, overriding the file's name. Of standard
        input, see :func:`splinellm.io.recognition.recognised`.
    is_reserved : callable
        Whether the output adds a column of this name, so that the input must not have it.
    chunk_rows : int
        Rows that are read, and computed, together.
    columns : sequence of str, optional
        Columns to keep besides the text column; the others are not even looked at. All by default.
    delimiter : str, optional
        Between values of CSV; told by the header by default.
    encoding : str, optional
        Of text. By default UTF-8, or what a byte order mark tells.
    optional_column : str, optional
        Column to keep besides `columns`, if it is there.
    share : Share, optional
        Read only this one of several shares of the input.
    holds_messages : bool
        Whether the text column holds conversations: lists of messages, or the JSON of such.
    csv_types : {"infer", "text"}
        Whether columns of CSV besides the texts get the types that all their values have, for which
        the input is read once more; or stay text.
    max_wait_s : float, optional
        How long a row of a pipe waits for others that are to be computed together with it; by
        default until there are `chunk_rows`.

    Returns
    -------
    Source
        To be closed by the caller.

    Raises
    ------
    InputFileError
        The file is missing or unreadable, of an unknown format, without the text column, or has
        a column that the output adds.
    """
    options = ReadOptions(
        text_column,
        is_reserved,
        chunk_rows,
        columns,
        delimiter,
        optional_column,
        holds_messages,
        max_wait_s=max_wait_s,
    )
    untyped = options
    if csv_types == "infer":
        texts = (text_column, optional_column)
        options = replace(options, is_typed=lambda n: n not in texts and not is_own_column(n))
    if encoding is not None:
        check_encoding(encoding)
    given = find_input(path, format)
    if share is not None and share.of > 1:
        if given.is_standard:
            raise ConfigurationError("standard input has no shares", hint="name a file")
        if given.is_pipe:
            raise ConfigurationError(
                f"'{given.shown}' is a pipe and has no shares", hint="name a file"
            )
    source = _opened(given, format, encoding, options)
    try:
        if share is None:
            return source
        return shared(source, share, partial(_opened, given, format, encoding, untyped))
    except BaseException:
        source.close()
        raise


def _opened(
    given: Input,
    format: str | None,  # noqa: A002 (as above)
    encoding: str | None,
    options: ReadOptions,
) -> Source[Chunk]:
    if given.kind is None:
        return _opened_stdin(format, encoding, options)
    _check_applies(given.kind, options.delimiter, encoding)
    if not given.kind.is_text:
        files: list[Location | BinaryIO] = [file.path for file in given.files]
        partitions = [file.partition for file in given.files]
        source: Source[Chunk] = load(given.kind.reader)(given.shown, files, options, partitions)
        return source
    open_file = partial(_opened_text, format=format, encoding=encoding)
    if given.is_plain:
        return open_file(given.files[0], options)
    return ManySource(given, open_file, options)


def _opened_text(
    file: InputFile,
    options: ReadOptions,
    *,
    format: str | None,  # noqa: A002 (as above)
    encoding: str | None,
) -> RowSource:
    path = str(file.path)
    known = input_format(path, format)
    stream = ByteStream.open_file(file.path, gzipped=is_gzipped(path), encoding=encoding)
    try:
        source: RowSource = load(known.reader)(stream, options)
    except BaseException:
        stream.close()
        raise
    return source


def _opened_stdin(
    format: str | None,  # noqa: A002 (as above)
    encoding: str | None,
    options: ReadOptions,
) -> Source[Chunk]:
    stream, head = ByteStream.open_stdin(encoding=encoding)
    try:
        known = format_named(format or recognised(head, encoding, options))
        _check_applies(known, options.delimiter, encoding)
        source: Source[Chunk]
        if known.is_text:
            source = load(known.reader)(stream, options)
        else:
            stream.make_rereadable()  # read from its end
            source = load(known.reader)(stream.name, [stream.reader()], options)
    except BaseException:
        stream.close()
        raise
    return source


def _check_applies(known: Format, delimiter: str | None, encoding: str | None) -> None:
    if delimiter is not None:
        if not known.has_delimiter:
            raise ConfigurationError(f"a delimiter is for .csv and .tsv, not for {known.name}")
        if len(delimiter) != 1 or delimiter in '"\r\n':
            raise ConfigurationError(f"a delimiter is one character, not {delimiter!r}")
    if encoding is not None and not known.is_text:
        raise ConfigurationError(f"an encoding is for text, not for {known.name}")
