from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tests.cli.conftest import Result
from tests.cli.labelled import labelled_rows, write_rows
from tests.fakes import FakeExtractor

Cli = Callable[..., Result]
QUICK = ("--no-hidden", "--no-ablations", "--folds", "3")


def figures(result: Result) -> dict[str, float]:
    """Mean ROC-AUC by what is in the line before it."""
    found = {}
    for line in result.stdout.decode().splitlines():
        if not line.startswith("left out"):
            name, number = line[:56], line[56:].split()[0]
            found[" ".join(name.split())] = float(number)
    return found


def test_features_and_baselines_on_the_same_folds(cli: Cli, fake: list[FakeExtractor]) -> None:
    rows = write_rows("in.jsonl", labelled_rows())
    result = cli("evaluate", "in.jsonl", "--label", "label", *QUICK)
    assert (result.code, result.stderr) == (0, "")
    found = figures(result)
    assert list(found) == [
        "features logistic, all toxic",
        "baseline length toxic",
        "baseline TF-IDF toxic",
    ]
    assert found["features logistic, all toxic"] > 95
    assert found["baseline length toxic"] == 50  # the fake cuts every text to eight tokens
    assert found["baseline TF-IDF toxic"] > 80
    assert fake[0].seen == [row["text"] for row in rows]


def test_ablations_of_an_extracted_table_need_no_model(cli: Cli, fake: list[FakeExtractor]) -> None:
    write_rows("in.jsonl", labelled_rows(60))
    assert cli("extract", "in.jsonl", "-o", "x.parquet").code == 0
    fake.clear()
    result = cli("evaluate", "x.parquet", "--label", "label", "--no-hidden", "--folds", "2")
    assert result.code == 0
    assert not fake
    found = figures(result)
    assert {"layer 0 toxic", "layer 2 toxic", "first layers 1 toxic"} <= found.keys()
    assert {"feature sign_mean toxic", "feature intrinsic_dimension toxic"} <= found.keys()


def test_leaving_out_each_source(cli: Cli) -> None:
    write_rows("in.csv", labelled_rows())
    result = cli("evaluate", "in.csv", "--label", "a,b", "--leave-out", "source", *QUICK)
    assert result.code == 0
    lines = result.stdout.decode().splitlines()
    heads = [line for line in lines if line.startswith("left out")]
    assert heads == [f"left out: s{i} (40 rows)" for i in range(3)]
    assert sum(line.startswith("features") for line in lines) == 3 * 2
    assert "±" not in result.stdout.decode()


@pytest.mark.parametrize("suffix", ["csv", "json", "html"])
def test_report(cli: Cli, suffix: str) -> None:
    write_rows("in.jsonl", labelled_rows(60))
    path = f"r.{suffix}"
    result = cli("evaluate", "in.jsonl", "--label", "label", *QUICK, "--report", path)
    assert result.code == 0
    if suffix == "html":
        assert "<h1>in.jsonl: label</h1>" in Path(path).read_text()
        page = Path(path).read_text()
        assert page.count('<th scope="col">toxic</th>') == 2  # features, baselines
        return
    rows = (
        pd.read_csv(path) if suffix == "csv" else pd.DataFrame(json.loads(Path(path).read_text()))
    )
    assert rows["item"].tolist() == ["logistic, all", "length", "TF-IDF"]
    assert rows["splits"].tolist() == [3, 3, 3]


def test_a_data_set_that_length_separates_is_warned_of(cli: Cli) -> None:
    rows = labelled_rows()
    for row in rows:
        row["text"] += " and more and more" * row["a"]
    write_rows("in.jsonl", rows)
    result = cli("evaluate", "in.jsonl", "--label", "label", "--max-tokens", "999", *QUICK)
    assert result.code == 0
    (line,) = result.stderr.splitlines()
    assert line.startswith("splinellm: warning: length alone separates 'toxic'")


def test_self_training(cli: Cli) -> None:
    write_rows("in.jsonl", labelled_rows())
    options = ("--labelled-shares", "0.5", "--repeats", "2")
    result = cli("evaluate", "in.jsonl", "--label", "label", *QUICK, *options)
    assert figures(result)["labelled share 0.5 toxic"] > 90


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--label", "none"], 1, "no column 'none'"),
        (["--label", "label", "--leave-out", "none"], 1, "no column 'none'"),
        (["--label", "label", "--leave-out", "source", "--group", "id"], 2, "exclude each other"),
        (["--label", "label", "--report", "r.pdf"], 2, ".html, .csv or .json, not 'r.pdf'"),
        (["--label", "label", "--labelled-shares", "x"], 2, "cannot read shares 'x'"),
        (["--label", "label", "--folds", "1"], 2, "--folds"),
    ],
)
def test_bad_usage_is_one_line_before_the_model_loads(
    cli: Cli, fake: list[FakeExtractor], arguments: list[str], code: int, message: str
) -> None:
    write_rows("in.jsonl", labelled_rows(60))
    result = cli("evaluate", "in.jsonl", *arguments)
    assert (result.code, result.stdout) == (code, b"")
    (line,) = result.stderr.splitlines()
    assert message in line
    assert not fake
