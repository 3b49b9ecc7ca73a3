"""Rounded features on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from splinellm import FeatureTable
from splinellm.io.feature_files import read_features
from tests import fakes
from tests.cli.conftest import Result
from tests.fakes import FakeExtractor
from tests.tables import check_equal

Cli = Callable[..., Result]


@pytest.mark.parametrize("output", ["out.parquet", "out.arrow", "out.npz", "out/"])
@pytest.mark.parametrize("granularity", ["prompt", "token"])
def test_extract(cli: Cli, fake: list[FakeExtractor], output: str, granularity: str) -> None:
    Path("in.csv").write_text("id,text\n1,one\n2,two\n")
    options = ["--granularity", granularity]
    assert cli("extract", "in.csv", "-o", output, "--precision", "float16", *options).code == 0
    assert cli("extract", "in.csv", "-o", "plain.parquet", *options).code == 0
    expected = FeatureTable.from_parquet("plain.parquet").rounded("float16")
    check_equal(read_features(output), expected)


def test_formats_of_text_have_none(cli: Cli) -> None:
    Path("in.txt").write_text("one\n")
    for output in ("out.csv", "out.jsonl", "-"):
        result = cli("extract", "in.txt", "-o", output, "--precision", "float16")
        assert result.code == 2
        assert "precision 'float16' is for .parquet, .arrow, .npz, not for" in result.stderr


@pytest.mark.parametrize("granularity", ["prompt", "token"])
def test_a_number_that_is_too_large_makes_a_bad_row(
    cli: Cli, fake: list[FakeExtractor], monkeypatch: pytest.MonkeyPatch, granularity: str
) -> None:
    small = fakes.fake_features

    def features(text: str, n_columns: int) -> Any:
        values = small(text, n_columns)
        return np.where(np.arange(n_columns) == 1, 70_000, values) if "big" in text else values

    monkeypatch.setattr(fakes, "fake_features", features)
    Path("in.csv").write_text("id,text\n1,one\n2,big\n3,NAN\n4,two\n")
    asked = ["extract", "in.csv", "-o", "out.parquet", "--precision", "float16"]
    asked += ["--granularity", granularity]
    failed = cli(*asked)
    assert failed.code == 1
    assert "row 2: layer_00." in failed.stderr
    assert "is 70000, too large for float16 (--precision float32)" in failed.stderr
    assert cli(*asked, "--on-error", "skip", "--resume").code == 0
    assert set(pq.read_table("out.parquet")["id"].to_pylist()) == {1, 4}
    lines = Path("out.parquet.rejects.jsonl").read_text().splitlines()
    assert [json.loads(line)["code"] for line in lines] == ["out_of_range", "non_finite_features"]


def test_another_precision_does_not_go_on(cli: Cli, fake: list[FakeExtractor]) -> None:
    Path("in.csv").write_text("id,text\n1,one\n2,NAN\n")
    asked = ["extract", "in.csv", "-o", "out.parquet", "--on-error"]
    assert cli(*asked, "fail").code == 1
    result = cli(*asked, "skip", "--resume", "--precision", "float16")
    assert result.code == 1
    assert "--precision" in result.stderr
