"""Labelled data from a file: texts, or the table that ``splinellm extract`` made of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from splinellm.conversations import Count, said, with_texts
from splinellm.errors import ConfigurationError, ConversationError, InputFileError
from splinellm.files import file_sha256
from splinellm.io.checks import conversation_of
from splinellm.io.feature_reader import FeatureChunk, open_features
from splinellm.io.inputs import Given, find_input
from splinellm.io.pipeline import row_error
from splinellm.io.readers import open_source
from splinellm.io.rows import Chunk, Problem
from splinellm.learn.labels import Labels
from splinellm.learn.thresholds import TEXT_HASHES, text_hashes
from splinellm.normalisation import normalise
from splinellm.table import FeatureTable


@dataclass(frozen=True, eq=False)
class Dataset:
    """Rows of a labelled file.

    Parameters
    ----------
    name : str
        File name, for the card.
    sha256 : str
        Of the file; empty for several, folders, URIs and standard input.
    columns : dict of str to list
        All input columns.
    texts : list of str or None
        None if an extracted table does not have one in every row.
    table : FeatureTable or None
        If the file is an extracted table.
    n_skipped : int
        Bad rows that were left out.
    conversations : list or None
        If the rows hold conversations; `texts` are then what is said in them.
    """

    name: str
    sha256: str
    columns: dict[str, list[Any]]
    texts: list[str] | None
    table: FeatureTable | None
    n_skipped: int = 0
    conversations: list[Any] | None = None

    @property
    def prompts(self) -> list[Any]:
        """What a model reads: conversations, or texts."""
        return self.texts or [] if self.conversations is None else self.conversations

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

    def labels(self, names: Sequence[str], *, positive: str | None = None) -> Labels:
        """Read label columns; see :meth:`splinellm.learn.labels.Labels.from_columns`."""
        return Labels.from_columns({name: self.column(name) for name in names}, positive=positive)

    def normalised(self) -> Dataset:
        """Give the same rows with normalised texts; columns stay as they are.

        Raises
        ------
        ConfigurationError
            The rows come with features of texts as they were.
        """
        if self.table is not None:
            raise ConfigurationError(
                f"'{self.name}' holds features of texts as they were",
                hint="normalise where the texts themselves are given",
            )

        def plain(text: str) -> str:
            return normalise(text).text

        chats = self.conversations
        return replace(
            self,
            texts=[plain(text) for text in self.texts or []],
            conversations=None if chats is None else [with_texts(one, plain) for one in chats],
        )

    def describe(self) -> dict[str, Any]:
        """Summarise for a classifier's card."""
        n_rows = len(next(iter(self.columns.values()), []))
        found = {"name": self.name, "rows": n_rows, "sha256": self.sha256}
        return found | ({} if self.texts is None else {TEXT_HASHES: text_hashes(self.texts)})


def read_dataset(
    path: Given,
    *,
    text_column: str = "text",
    on_error: Literal["fail", "skip"] = "fail",
    columns: Sequence[str] | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    holds_messages: bool = False,
    count: Count = "all",
) -> Dataset:
    """Read a labelled file into memory.

    Parameters
    ----------
    path : str, sequence of str or Input
        Anything that ``splinellm extract`` reads, or what it wrote as Parquet, CSV or JSONL.
    text_column : str
        Column that holds the texts.
    on_error : {"fail", "skip"}
        What happens at a row without a usable text, or without all its features.
    columns, delimiter, encoding, holds_messages
        See :func:`splinellm.io.readers.open_source`.
    count : str
        What of a conversation its text is, for who reads words.

    Raises
    ------
    InputFileError, RowError, TableFormatError
        The file, a row of it, or its features cannot be used.
    """
    given = find_input(path)
    only = given.files[0].path if given.is_plain and not given.is_pipe else None
    digest = file_sha256(only) if isinstance(only, Path) and only.is_file() else ""
    told: dict[str, Any] = {
        "columns": columns,
        "delimiter": delimiter,
        "encoding": encoding,
        "csv_types": "text",  # the classes of a label are what is written there
    }
    extracted = open_features(given, text_column=text_column, **told)
    records: list[dict[str, Any]] = []
    tables: list[FeatureTable] = []
    skipped = 0
    holds_messages = holds_messages and extracted is None
    source_of = partial(open_source, given, holds_messages=holds_messages)
    chats: list[Any] = []
    texts: list[str] = []
    with closing(extracted or source_of(text_column=text_column, **told)) as source:
        for chunk in source.chunks():
            problems = dict(chunk.problems)
            if holds_messages:
                problems |= _said(chunk, count, chats, texts)
            if problems and on_error == "fail":
                first = min(problems)
                raise row_error(chunk, first, problems[first])
            skipped += len(problems)
            good = chunk.take([i for i in range(len(chunk)) if i not in problems])
            records.extend(good.records())
            if isinstance(good, FeatureChunk):
                tables.append(good.features)
    names = dict.fromkeys(name for record in records for name in record)
    found = {name: [record.get(name) for record in records] for name in names}
    if not holds_messages:
        texts = [text for text in found.get(text_column, []) if isinstance(text, str)]
    has_texts = len(texts) == len(records) and text_column in found
    table = FeatureTable.concatenate(tables) if tables else None
    return Dataset(
        Path(given.shown).name,
        digest,
        found,
        texts if has_texts else None,
        table,
        skipped,
        chats if holds_messages else None,
    )


def _said(chunk: Chunk, count: Count, chats: list[Any], texts: list[str]) -> dict[int, Problem]:
    """Add a chunk's conversations and what counts of them; rows in which nothing does are bad."""
    places = [i for i in range(len(chunk)) if i not in chunk.problems]
    problems: dict[int, Problem] = {}
    for place, value in zip(places, chunk.take(places).texts(), strict=True):
        chat = conversation_of(value)
        try:
            text = said(chat, count)
        except ConversationError as error:
            problems[place] = Problem(error.code, str(error))
            continue
        chats.append(chat)
        texts.append(text)
    return problems
