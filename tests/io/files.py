"""Write rows as a file of any input format; run rows through the fake extractor."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from splinellm.io.features import FeatureAnnotator
from splinellm.io.pipeline import annotate_rows
from splinellm.io.readers import open_source
from splinellm.io.rows import Chunk
from splinellm.io.shares import Share
from splinellm.io.sink import open_sink
from tests.fakes import FakeExtractor

ROWS = [
    {"id": "a1", "text": "plain", "note": ""},
    {"id": "b,2", "text": 'quotes " and, commas', "note": "x"},
    {"id": "c3", "text": "two\nlines\r\nand \ttab", "note": " "},
    {"id": "d4", "text": "日本語 \u2028 \x85 \x0b é 👍", "note": "\x00"},
    {"id": "e5", "text": " leading and trailing ", "note": "null"},
]
ONE_LINE_ROWS = [{"text": row["text"]} for row in ROWS if "\n" not in row["text"]]


def write_input(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write `rows` in the format of the suffix; TXT keeps the texts alone."""
    suffix = path.name.removesuffix(".gz").rpartition(".")[2]
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    if suffix == "arrow":
        pyarrow.feather.write_feather(pa.Table.from_pylist(rows), path)
        return path
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8", newline="") as file:
        if suffix == "jsonl":
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        elif suffix == "txt":
            file.writelines(row["text"] + "\n" for row in rows)
        else:
            writer = csv.writer(file, delimiter="\t" if suffix == "tsv" else ",")
            writer.writerow(rows[0])
            writer.writerows(row.values() for row in rows)
    return path


def set_chunk_rows(monkeypatch: pytest.MonkeyPatch, n_rows: int) -> None:
    """Make chunks of this many rows, also where the caller of the readers does not say."""
    defaults = {**(open_source.__kwdefaults__ or {}), "chunk_rows": n_rows}
    monkeypatch.setattr(open_source, "__kwdefaults__", defaults)


Paths = str | Path | Sequence[str]


def given(paths: Paths) -> str | list[str]:
    """An input, as the readers take it."""
    return str(paths) if isinstance(paths, str | Path) else list(paths)


def read_chunks(path: Paths, **options: Any) -> list[Chunk]:
    with closing(open_source(given(path), **{"csv_types": "text", **options})) as source:
        return list(source.chunks())


def read_good(path: Paths, **options: Any) -> list[dict[str, Any]]:
    """Records of the good rows."""
    return [
        record
        for chunk in read_chunks(path, **options)
        for record in chunk.take(
            [i for i in range(len(chunk)) if i not in chunk.problems]
        ).records()
    ]


def read_problems(path: Paths, **options: Any) -> dict[int, tuple[str, str]]:
    """Code and reason of bad rows, by row number."""
    return {
        chunk.number(i): (problem.code, problem.reason)
        for chunk in read_chunks(path, **options)
        for i, problem in chunk.problems.items()
    }


def run(
    source_path: Paths,
    output: str | Path,
    extractor: FakeExtractor | None = None,
    on_error: Any = "fail",
    *,
    resume: bool = False,
    share: Share | None = None,
    force: bool = False,
    **options: Any,
) -> FakeExtractor:
    """The whole loop; returns the extractor, which knows the texts it saw."""
    extractor = extractor or FakeExtractor()
    with closing(open_source(given(source_path), share=share, **options)) as source:
        sink = open_sink(str(output), given(source_path), resume=resume, share=share, force=force)
        annotate_rows(source, sink, FeatureAnnotator(extractor), on_error=on_error)
    return extractor
