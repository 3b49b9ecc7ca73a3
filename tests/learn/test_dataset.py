"""Labelled files: texts, and what was extracted from them."""

from __future__ import annotations

import hashlib
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from splinellm.errors import InputFileError, RowError, TableFormatError
from splinellm.io.feature_reader import open_features
from splinellm.learn.dataset import read_dataset
from tests.io.files import ROWS, run, write_input

LABELLED = [{**row, "label": label} for row, label in zip(ROWS, "xyxyx", strict=True)]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "jsonl.gz", "parquet"])
def test_texts_and_columns_of_every_format(tmp_path: Path, suffix: str) -> None:
    path = write_input(tmp_path / f"in.{suffix}", LABELLED)
    rows = read_dataset(str(path))
    assert rows.table is None
    assert rows.texts == [row["text"] for row in LABELLED]
    assert rows.column("label") == list("xyxyx")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    told = rows.describe()
    assert told.pop("text_hashes") == sorted(
        hashlib.sha256(row["text"].encode()).hexdigest()[:12] for row in LABELLED
    )
    assert told == {"name": path.name, "rows": 5, "sha256": digest}


@pytest.mark.parametrize("suffix", ["parquet", "csv", "csv.gz", "jsonl", "jsonl.gz"])
def test_what_was_extracted_is_table_texts_and_columns(tmp_path: Path, suffix: str) -> None:
    # Texts with line breaks and quotes; note is "null" once, which must stay text.
    source = write_input(tmp_path / "in.jsonl", LABELLED)
    extractor = run(source, tmp_path / f"x.{suffix}")
    rows = read_dataset(str(tmp_path / f"x.{suffix}"))
    expected = extractor.table([row["text"] for row in LABELLED])
    assert rows.table is not None
    np.testing.assert_array_equal(rows.table.values, expected.values)
    np.testing.assert_array_equal(rows.table.n_tokens, expected.n_tokens)
    np.testing.assert_array_equal(rows.table.truncated, expected.truncated)
    assert rows.table.provenance == expected.provenance
    assert rows.columns == {name: [row[name] for row in LABELLED] for name in LABELLED[0]}
    assert rows.texts == rows.columns["text"]


def test_features_alone_have_no_texts(tmp_path: Path) -> None:
    extractor = run(write_input(tmp_path / "in.jsonl", LABELLED), tmp_path / "x.parquet")
    extractor.table(["a"]).to_parquet(tmp_path / "x.parquet")
    rows = read_dataset(str(tmp_path / "x.parquet"))
    assert rows.texts is None
    assert rows.table is not None
    assert len(rows.table) == 1


def test_bad_rows_fail_by_number_or_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"text": "a"}\n{"text": ""}\n{\n{"text": "b"}\n')
    with pytest.raises(RowError, match=r"in\.jsonl: row 2: column 'text': the text is empty"):
        read_dataset(str(path))
    rows = read_dataset(str(path), on_error="skip")
    assert (rows.texts, rows.n_skipped) == (["a", "b"], 2)


def test_rows_without_a_feature_are_bad_rows(tmp_path: Path) -> None:
    run(write_input(tmp_path / "in.jsonl", LABELLED), tmp_path / "x.csv")
    lines = (tmp_path / "x.csv").read_text().rsplit(",", 1)
    (tmp_path / "x.csv").write_text(lines[0] + ",\n")
    with pytest.raises(RowError, match=r"row 5: column 'layer_02.intrinsic_dimension'"):
        read_dataset(str(tmp_path / "x.csv"))
    rows = read_dataset(str(tmp_path / "x.csv"), on_error="skip")
    assert rows.n_skipped == 1
    assert rows.table is not None
    assert len(rows.table) == len(rows.texts or []) == 4


def test_a_folder_whose_parts_do_not_agree_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    source = write_input(tmp_path / "in.jsonl", LABELLED)
    run(source, folder / "1.parquet")
    write_input(folder / "2.parquet", LABELLED)
    with pytest.raises(TableFormatError, match=r"2\.parquet' is not comparable"):
        read_dataset(str(folder))


def test_unknown_column_names_those_there_are(tmp_path: Path) -> None:
    rows = read_dataset(str(write_input(tmp_path / "in.jsonl", LABELLED)))
    with pytest.raises(InputFileError, match="no column 'y', only: 'id', 'text', 'note', 'label'"):
        rows.column("y")


def test_a_damaged_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(InputFileError, match=r"x\.parquet"):
        read_dataset(str(tmp_path / "x.parquet"))


def test_selected_rows_keep_their_own_features(tmp_path: Path) -> None:
    extractor = run(write_input(tmp_path / "in.jsonl", LABELLED), tmp_path / "x.parquet")
    source = open_features(str(tmp_path / "x.parquet"))
    assert source is not None
    with closing(source):
        (chunk,) = source.chunks()
        part = chunk.take([1, 3]).take([1])
    expected = extractor.table([LABELLED[3]["text"]])
    np.testing.assert_array_equal(part.features.values, expected.values)
    assert part.records() == [LABELLED[3]]


def test_how_a_file_is_read_can_be_told(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes("text^toxic^other\nna\xefve^1^x\n".encode("latin-1"))
    rows = read_dataset(str(path), columns=["toxic"], delimiter="^", encoding="cp1252")
    assert rows.columns == {"text": ["na\xefve"], "toxic": ["1"]}
