"""A table comes back from every format as it went in, or is refused."""

from __future__ import annotations

import csv
import errno
import gzip
import json
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splinellm import FeatureTable
from splinellm.errors import ConfigurationError, TableFormatError
from splinellm.io.feature_files import write_features
from splinellm.io.feature_reader import open_features
from splinellm.provenance import sidecar
from tests.fakes import fake_provenance
from tests.tables import check_equal, make

FORMATS = ["parquet", "csv", "jsonl", "npz"]
FILES = [*FORMATS, "csv.gz", "jsonl.gz"]


def write(table: FeatureTable, path: Path) -> None:
    getattr(table, f"to_{path.suffix[1:]}")(path)


def read(path: Path) -> FeatureTable:
    suffix = path.name.split(".")[1]
    table: FeatureTable = getattr(FeatureTable, f"from_{suffix}")(path)
    return table


@pytest.mark.parametrize("n_rows", [0, 1, 5])
@pytest.mark.parametrize("suffix", FORMATS)
def test_file_round_trip(tmp_path: Path, suffix: str, n_rows: int) -> None:
    write(make(n_rows), tmp_path / f"t.{suffix}")
    check_equal(read(tmp_path / f"t.{suffix}"), make(n_rows))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=2, max_size=2))
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_text_keeps_every_bit(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, values: list[float]
) -> None:
    provenance = fake_provenance(layers=(0,), features=("sign_mean", "sign_min"))
    table = FeatureTable(
        np.array([values], np.float32), np.array([2]), np.array([False]), provenance
    )
    path = tmp_path_factory.mktemp("bits") / f"t.{suffix}"
    write(table, path)
    assert read(path).values.tobytes() == table.values.tobytes()


def with_other_columns(path: Path, before: dict[str, list[Any]], after: dict[str, Any]) -> None:
    """Write a file such as `splinellm extract` makes: input columns first."""
    table = make(len(next(iter(before.values()))))
    rows = [
        {**{name: column[i] for name, column in before.items()}, **record, **after}
        for i, record in enumerate(table.to_arrow().to_pylist())
    ]
    text = gzip.open if path.suffix == ".gz" else open
    if ".csv" in path.name:
        with text(path, "wt", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    else:
        with text(path, "wt", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    sidecar(path).write_text(table.provenance.to_json())


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "csv.gz", "jsonl.gz"])
def test_other_columns_do_not_matter(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t.{suffix}"
    texts = ["two\nlines", 'quoted ", too', "\u2028\r\nü", "", "x" * 2_000_000]
    mixed = [1, "a", None, [1, {"b": 2}], 2.5]  # Arrow has no type for these
    with_other_columns(path, {"text": texts, "extra": mixed}, {"label": "x"})
    check_equal(read(path), make(5))


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_byte_order_mark_does_not_matter(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t.{suffix}"
    write(make(5), path)
    for file in (path, sidecar(path)):
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    check_equal(read(path), make(5))


def test_csv_column_that_begins_with_whole_numbers(tmp_path: Path) -> None:
    # Guessed from its beginning, it would be one of integers, and the file unreadable.
    provenance = fake_provenance(layers=(0,), features=("sign_min",))
    values = np.zeros((300_000, 1), np.float32)
    values[-1] = 0.25
    n_rows = len(values)
    ones = np.ones(n_rows, np.int64)
    table = FeatureTable(values, ones, ones.astype(bool), provenance)
    table.to_csv(tmp_path / "t.csv")
    check_equal(FeatureTable.from_csv(tmp_path / "t.csv"), table)


COLUMN = "layer_00.sign_min"
SPOILERS: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "missing column": (lambda f: f.drop(columns=COLUMN), f"'{COLUMN}' is missing"),
    "no n_tokens": (lambda f: f.drop(columns="n_tokens"), "'n_tokens' is missing"),
    "wrong order": (lambda f: f[[*f.columns[:2], *f.columns[:1:-1]]], "not those"),
    "foreign layer": (lambda f: f.assign(**{"layer_01.sign_mean": 0.5}), "not those"),
    "null": (lambda f: f.assign(**{COLUMN: [0.5, None, 1, 1, 1]}), "missing values|not finite"),
    "infinite": (lambda f: f.assign(**{COLUMN: np.inf}), "not finite"),
    "text": (lambda f: f.assign(**{COLUMN: "high"}), "wrong type|not a feature table"),
}


@pytest.mark.parametrize("name", SPOILERS)
@pytest.mark.parametrize("way", ["pandas", "arrow", "csv", "jsonl", "parquet"])
def test_spoiled_table_is_refused(tmp_path: Path, name: str, way: str) -> None:
    spoil, message = SPOILERS[name]
    provenance = make().provenance
    frame = spoil(make().to_pandas())
    arrow = pa.Table.from_pandas(frame, preserve_index=False)
    arrow = arrow.replace_schema_metadata({"splinellm.provenance": provenance.to_json()})
    path = tmp_path / f"t.{way}"
    sidecar(path).write_text(provenance.to_json())
    readers: dict[str, Callable[[], FeatureTable]] = {
        "pandas": lambda: FeatureTable.from_pandas(frame, provenance),
        "arrow": lambda: FeatureTable.from_arrow(arrow),
        "csv": lambda: (frame.to_csv(path, index=False), read(path))[1],
        "jsonl": lambda: (
            path.write_text("".join(json.dumps(row) + "\n" for row in frame.to_dict("records"))),
            read(path),
        )[1],
        "parquet": lambda: (pa.parquet.write_table(arrow, path), read(path))[1],
    }
    with pytest.raises(TableFormatError, match=message):
        readers[way]()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_table_holds_no_value_that_is_not_finite(tmp_path: Path, value: float) -> None:
    table = make()
    values = table.values.copy()
    values[2, 3] = value
    with pytest.raises(TableFormatError, match="not finite"):
        FeatureTable(values, table.n_tokens, table.truncated, table.provenance)
    np.savez(
        tmp_path / "t.npz",
        values=values,
        names=np.array(table.names),
        n_tokens=table.n_tokens,
        truncated=table.truncated,
        provenance=np.array(table.provenance.to_json()),
    )
    with pytest.raises(TableFormatError, match="not finite"):
        FeatureTable.from_npz(tmp_path / "t.npz")


@pytest.mark.parametrize("suffix", FILES)
@pytest.mark.parametrize("content", [b"", b"\0\1\2", b"[1]\n", b"a,b\n1\n", b"PK\3\4", b"PAR1"])
def test_file_of_another_kind_is_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"t.{suffix}"
    path.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    sidecar(path).write_text(make().provenance.to_json())
    if content == b"" and "jsonl" in suffix:
        assert len(read(path)) == 0  # JSON lines of no rows
        return
    with pytest.raises(TableFormatError):
        read(path)


def test_archive_is_never_unpickled(tmp_path: Path) -> None:
    table = make(1)
    names = np.array(table.names, dtype=object)
    np.savez(tmp_path / "t.npz", names=names, provenance=np.array(table.provenance.to_json()))
    with pytest.raises(TableFormatError, match="pickle"):
        FeatureTable.from_npz(tmp_path / "t.npz")


@pytest.mark.parametrize("suffix", FILES)
def test_disk_that_fills_while_a_table_is_written(tmp_path: Path, suffix: str) -> None:
    resource = pytest.importorskip("resource", reason="files have no limits here")
    path = tmp_path / f"t.{suffix}"
    write_features(make(5), path)
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before[path.name]) // 2, unlimited[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_features(make(9), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == before


@pytest.mark.parametrize("suffix", FILES)
def test_disk_that_fails_once_a_table_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path = tmp_path / f"t.{suffix}"
    write_features(make(5), path)
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    monkeypatch.setattr(os, "fsync", _no_room)
    with pytest.raises(OSError, match="No space left"):
        write_features(make(9), path)
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == before


def _no_room(_descriptor: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_archive_that_cannot_be_is_no_end_of_the_one_before(tmp_path: Path) -> None:
    table = make(features=("sign_mean", "sign_block_00"))
    path = tmp_path / "t.npz"
    write_features(table, path)
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="one array"):
        write_features(table, path, precision="uint8")
    assert path.read_bytes() == before


def test_table_goes_to_where_a_link_leads(tmp_path: Path) -> None:
    (tmp_path / "there.csv").write_text("")
    (tmp_path / "t.csv").symlink_to("there.csv")
    write_features(make(5), tmp_path / "t.csv")
    assert (tmp_path / "t.csv").is_symlink()
    assert (tmp_path / "there.csv").read_bytes()
    check_equal(read(tmp_path / "t.csv"), make(5))


def test_texts_before_conversations_hide_no_template(tmp_path: Path) -> None:
    """A classifier of conversations would take those of any template."""
    for i, template in enumerate(("", "a" * 64)):
        make(2, chat_template_sha256=template).to_parquet(tmp_path / f"{i}.parquet")
    assert FeatureTable.from_parquet(tmp_path).provenance.chat_template_sha256 == "a" * 64
    source = open_features(str(tmp_path))
    assert source is not None
    with closing(source):
        assert source.provenance.chat_template_sha256 == "a" * 64
    make(2, chat_template_sha256="b" * 64).to_parquet(tmp_path / "2.parquet")
    for opened in (FeatureTable.from_parquet, open_features):
        with pytest.raises(TableFormatError, match=r"2\.parquet' is not comparable .*: chat_temp"):
            opened(str(tmp_path))
