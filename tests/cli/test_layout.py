"""Layouts on the command line: what is written reads as the same table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from splinellm import FeatureTable
from splinellm.io.feature_files import read_features
from splinellm.io.feature_reader import open_features
from tests.cli.conftest import Result
from tests.fakes import FakeExtractor
from tests.tables import check_equal

Cli = Callable[..., Result]


@pytest.mark.parametrize("output", ["out.parquet", "out.arrow", "out.jsonl", "out.npz", "out/"])
@pytest.mark.parametrize("granularity", ["prompt", "token"])
def test_extract(cli: Cli, fake: list[FakeExtractor], output: str, granularity: str) -> None:
    Path("in.csv").write_text("id,text\n1,one\n2,two\n")
    layout = "tensor" if output.endswith("npz") else "list"
    options = ["--granularity", granularity]
    assert cli("extract", "in.csv", "-o", output, "--layout", layout, *options).code == 0
    assert cli("extract", "in.csv", "-o", "plain.parquet", *options).code == 0
    expected = FeatureTable.from_parquet("plain.parquet")
    check_equal(read_features(output), expected)


def test_rows_with_lists_are_read_as_those_with_columns(cli: Cli) -> None:
    Path("in.csv").write_text("id,text\n1,one\n2,two\n")
    for output in ("l.parquet", "l.jsonl", "l.arrow"):
        assert cli("extract", "in.csv", "-o", output, "--layout", "list").code == 0
        source = open_features(output)
        assert source is not None
        (chunk,) = source.chunks()
        check_equal(chunk.features, read_features(output))
        assert chunk.records() == [{"id": 1, "text": "one"}, {"id": 2, "text": "two"}]
        assert source.schema().names == ["id", "text"]
        source.close()


def test_columns_of_lists_are_reserved_only_where_they_are_added(cli: Cli) -> None:
    Path("in.csv").write_text("sign_mean,text\n1,one\n")
    assert cli("extract", "in.csv", "-o", "out.parquet").code == 0
    check = read_features("out.parquet")
    assert len(check) == 1
    result = cli("extract", "in.csv", "-o", "list.parquet", "--layout", "list")
    assert result.code == 1
    assert "already has a column 'sign_mean'" in result.stderr
    result = cli("extract", "in.csv", "-o", "out.csv", "--layout", "list")
    assert result.code == 2
    assert "layout 'list' is for .jsonl, .parquet, .arrow, not for .csv" in result.stderr
