from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow.parquet
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


def test_what_is_left_out_and_has_no_figure_is_told(cli: Cli) -> None:
    write_rows("in.csv", labelled_rows())
    result = cli("evaluate", "in.csv", "--label", "label", "--leave-out", "label", *QUICK)
    assert result.code == 0
    assert figures(result) == {}
    assert "warning: 'toxic' has no figure" in result.stderr


@pytest.mark.parametrize("suffix", ["csv", "json", "html"])
def test_report(cli: Cli, suffix: str) -> None:
    write_rows("in.jsonl", labelled_rows(60))
    path = f"r.{suffix}"
    result = cli("evaluate", "in.jsonl", "--label", "label", *QUICK, "--report", path)
    assert result.code == 0
    if suffix == "html":
        assert "<h1>in.jsonl: label</h1>" in Path(path).read_text()
        assert (
            Path(path).read_text().count('<th scope="col">toxic</th>') == 2
        )  # features, baselines
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


def named_rows(n_rows: int = 240) -> list[dict[str, object]]:
    """Every fourth pair of rows names a group, and is of a column's group, too."""
    rows = labelled_rows(n_rows)
    for i, row in enumerate(rows):
        is_of_group = i // 2 % 4 == 0
        row["text"] += " jewish" * is_of_group + " sikh" * (i < 4)
        row["platform"] = "forum" if is_of_group else "news"
    return rows


def test_groups_named_in_texts_are_measured_out_of_fold(cli: Cli) -> None:
    rows = named_rows()
    write_rows("in.jsonl", rows)
    result = cli("evaluate", "in.jsonl", "--label", "label", *QUICK, "--report", "r.json")
    assert (result.code, result.stderr) == (0, "")
    lines = result.stdout.decode().splitlines()
    (line,) = (line for line in lines if line.startswith("jewish"))
    assert line.split()[1:4] == ["toxic", "60", "30"]
    assert "groups with fewer than 10 rows on a side: sikh (4)" in lines
    records = json.loads(Path("r.json").read_text())
    (one,) = (r for r in records if (r["section"], r["item"]) == ("BPSN AUC", "jewish"))
    assert 0.8 < one["low"] <= one["roc_auc"] <= one["high"] <= 1
    assert (one["rows"], one["positive"]) == (60, 30)
    (none,) = (r for r in records if (r["section"], r["item"]) == ("subgroup AUC", "sikh"))
    assert none["roc_auc"] is None
    assert cli("evaluate", "in.jsonl", "--label", "label", *QUICK, "--report", "r.html").code == 0
    page = Path("r.html").read_text()
    assert page.count("Of too few rows to tell: sikh.") == 3
    assert "too few: " not in page
    assert "30 of 60 rows" in page
    result = cli("evaluate", "in.jsonl", "--label", "label", *QUICK, "--no-identity-terms")
    assert b"jewish" not in result.stdout


def test_groups_of_a_column_are_measured(cli: Cli) -> None:
    write_rows("in.csv", named_rows())
    options = ("--subgroups", "platform", "--no-identity-terms", *QUICK)
    result = cli("evaluate", "in.csv", "--label", "a,b", *options, "--report", "r.csv")
    assert result.code == 0
    heads = [line.split()[:4] for line in result.stdout.decode().splitlines()]
    assert ["forum", "a", "60", "30"] in heads
    assert ["news", "a", "180", "90"] in heads
    report = pd.read_csv("r.csv")
    assert set(report["section"]) >= {"features", "subgroup AUC", "BPSN AUC", "BNSP AUC"}
    assert report.loc[report["item"] == "forum", "rows"].tolist() == [60] * 6
    for suffix in ("html",):
        assert (
            cli("evaluate", "in.csv", "--label", "a,b", *options, "--report", f"r.{suffix}").code
            == 0
        )
    page = Path("r.html").read_text()
    assert "<h2>BPSN AUC</h2>" in page
    assert "30 of 60 rows" in page


@pytest.mark.parametrize(
    ("column", "message"), [("none", "no column 'none'"), ("id", "240 different values")]
)
def test_a_column_that_is_no_group_is_refused_before_the_model_loads(
    cli: Cli, fake: list[FakeExtractor], column: str, message: str
) -> None:
    write_rows("in.jsonl", named_rows())
    result = cli("evaluate", "in.jsonl", "--label", "label", "--subgroups", column, *QUICK)
    assert result.code == 1
    assert message in result.stderr
    assert not fake


def test_identity_terms_need_texts(cli: Cli) -> None:
    write_rows("in.jsonl", named_rows())
    assert cli("extract", "in.jsonl", "-o", "x.parquet").code == 0
    options = ("--label", "label", "--no-hidden", "--no-ablations", "--folds", "2")
    assert b"jewish" in cli("evaluate", "x.parquet", *options).stdout
    table = pyarrow.parquet.read_table("x.parquet")
    pyarrow.parquet.write_table(table.drop_columns("text"), "y.parquet")
    result = cli("evaluate", "y.parquet", *options, "--identity-terms")
    assert result.code == 1
    assert "--identity-terms reads texts, and 'y.parquet' has none" in result.stderr
    assert b"jewish" not in cli("evaluate", "y.parquet", *options).stdout


@pytest.mark.parametrize("report", ["in.csv", "../{}/in.csv", "link.csv"])
def test_report_does_not_replace_the_data(cli: Cli, tmp_path: Path, report: str) -> None:
    write_rows("in.jsonl", labelled_rows(120))
    pd.read_json("in.jsonl", lines=True).to_csv("in.csv", index=False)
    os.link("in.csv", "link.csv")
    before = Path("in.csv").read_bytes()
    path = report.format(tmp_path.name)
    result = cli("evaluate", "in.csv", "--label", "label", *QUICK, "--report", path)
    assert result.code == 2
    assert f"writing '{path}' would replace the input 'in.csv'" in result.stderr
    assert Path("in.csv").read_bytes() == before
