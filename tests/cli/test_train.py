from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from splinellm.learn.artifact import load_classifier
from splinellm.learn.classifier import NormalisationWarning
from tests.cli.conftest import Result
from tests.cli.labelled import labelled_rows, write_rows
from tests.fakes import FakeExtractor

Cli = Callable[..., Result]


def test_binary_from_texts(cli: Cli, fake: list[FakeExtractor]) -> None:
    rows = write_rows("in.jsonl", labelled_rows())
    result = cli("train", "in.jsonl", "--label", "label", "-o", "mine")
    assert result.code == 0
    heading, columns, figures, lengths, *by_length = result.stdout.decode().splitlines()
    assert heading.startswith("held out: each of 120 rows once, in 5 splits")
    assert columns.split()[:2] == ["rows", "ROC-AUC"]
    assert figures.split()[:3] == ["toxic", "60", "100.00%"]
    assert lengths.split() == [
        "reliability",
        "by",
        "length",
        "rows",
        "mean",
        "probability",
        "share",
        "brier",
    ]
    assert sum(int(line.split("tokens")[1].split()[0]) for line in by_length) == 120
    longer, few, written, following = result.stderr.splitlines()
    assert "few or none of these rows have over 16 tokens" in longer
    assert "120 rows are few" in few
    assert written == "splinellm: classifier written to mine"
    assert following == (
        "splinellm: use it with splinellm predict mine INPUT -o OUTPUT, or splinellm serve "
        "--classifiers mine"
    )
    assert fake[0].seen == [row["text"] for row in rows]
    assert fake[0].settings["features"] == "blocks"
    card = load_classifier("mine").card
    assert (card.name, card.kind, card.classes) == ("mine", "binary", ("clean", "toxic"))
    assert card.data["name"] == "in.jsonl"
    assert card.data["rows"] == 120


def test_several_label_columns_are_multilabel(cli: Cli) -> None:
    write_rows("in.csv", labelled_rows())
    result = cli("train", "in.csv", "--label", "a, b", "-o", "mine", "-q")
    assert (result.code, result.stderr) == (0, "")
    figures = [line.split() for line in result.stdout.decode().splitlines()[2:4]]
    assert [line[0] for line in figures] == ["a", "b"]
    assert all(float(line[2].rstrip("%")) > 95 for line in figures)
    assert load_classifier("mine").card.kind == "multilabel"


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_an_extracted_table_needs_no_model(
    cli: Cli, fake: list[FakeExtractor], suffix: str
) -> None:
    write_rows("in.jsonl", labelled_rows())
    assert cli("extract", "in.jsonl", "-o", f"x.{suffix}", "--layers", "0,1").code == 0
    provenance = fake.pop().provenance
    result = cli("train", f"x.{suffix}", "--label", "label", "-o", "mine")
    assert result.code == 0
    assert not fake
    card = load_classifier("mine").card
    assert card.provenance == provenance
    assert card.metrics["held out"]["toxic"]["roc_auc"] > 0.95


def test_a_threshold_for_precision_reaches_the_card(cli: Cli) -> None:
    write_rows("in.jsonl", [{**row, "fold": row["id"] // 4 % 6} for row in labelled_rows()])
    options = ("--target-precision", "0.9", "--group", "id", "--tune-across", "fold")
    assert cli("train", "in.jsonl", "--label", "label", "-o", "mine", *options).code == 0
    assert load_classifier("mine").card.settings["threshold_for"] == "precision 0.9"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--label", "none"], 1, "'in.jsonl' has no column 'none', only: 'id', 'text'"),
        (["--label", "one"], 1, "column 'one' has one class only: x"),
        (["--label", "rare"], 1, "class '1' has 2 of 120 rows"),
        (["--label", "id"], 1, "column 'id' has 120 classes"),
        (["--label", "label", "--group", "none"], 1, "no column 'none'"),
        (["--label", ","], 2, "--label names no column"),
        ([], 2, "Missing option '--label'"),
        (["--label", "label", "--estimator", "svm"], 2, "'svm'"),
        (["--label", "a", "--target-precision", "0.9", "--target-recall", "0.9"], 2, "choose one"),
        (["--label", "three", "--target-fpr", "0.1"], 1, "a target fpr is reached by a threshold"),
        (["--label", "three", "--abstain", "0.1"], 1, "an uncertain band is around a threshold"),
        (["--label", "three", "--abstain", "0.1", "--pool", "max"], 1, "an uncertain band"),
    ],
)
def test_what_cannot_be_learnt_is_one_line_before_the_model_loads(
    cli: Cli, fake: list[FakeExtractor], arguments: list[str], code: int, message: str
) -> None:
    rows = labelled_rows()
    more = [{"one": "x", "rare": int(row["id"] < 2), "three": "abc"[row["id"] % 3]} for row in rows]
    write_rows("in.jsonl", [row | added for row, added in zip(rows, more, strict=True)])
    result = cli("train", "in.jsonl", "-o", "mine", *arguments)
    assert (result.code, result.stdout) == (code, b"")
    (line,) = result.stderr.splitlines()
    assert message in line
    assert not fake
    assert not Path("mine").exists()


def test_a_file_is_no_folder(cli: Cli, fake: list[FakeExtractor]) -> None:
    write_rows("in.jsonl", labelled_rows())
    result = cli("train", "in.jsonl", "--label", "label", "-o", "in.jsonl")
    assert (result.code, fake) == (2, [])
    assert "is a file" in result.stderr


def test_bad_rows_fail_or_are_left_out_and_counted(cli: Cli) -> None:
    rows = labelled_rows()
    rows[4]["text"] = ""
    write_rows("in.jsonl", rows)
    result = cli("train", "in.jsonl", "--label", "label", "-o", "mine")
    assert result.code == 1
    assert "in.jsonl: row 5: column 'text': the text is empty" in result.stderr
    result = cli("train", "in.jsonl", "--label", "label", "-o", "mine", "--on-error", "skip")
    assert result.code == 0
    assert result.stderr.splitlines()[0].endswith("1 row that cannot be used was left out")
    assert json.loads(Path("mine/card.json").read_text())["data"]["rows"] == 119


def test_texts_are_normalised_in_training_and_wherever_it_is_used(
    cli: Cli, fake: list[FakeExtractor]
) -> None:
    rows = labelled_rows()
    write_rows("plain.jsonl", rows)
    hidden = [{**row, "text": row["text"].replace("toxic", "t\u200box\u00adic")} for row in rows]
    write_rows("hidden.jsonl", hidden)
    train = ("--label", "label", "-q", "-o")
    assert cli("train", "hidden.jsonl", *train, "on", "--normalise").code == 0
    assert fake.pop().seen == [row["text"] for row in rows]
    assert cli("train", "hidden.jsonl", *train, "off", "--no-normalise").code == 0
    assert fake.pop().seen == [row["text"] for row in hidden]
    assert load_classifier("on").card.settings["normalisation"] == "2"
    assert "normalisation" not in load_classifier("off").card.settings
    for name, texts in (("on", rows), ("off", hidden)):
        assert cli("predict", name, "hidden.jsonl", "-o", f"{name}.jsonl", "-q").code == 0
        assert fake.pop().seen == [row["text"] for row in texts]
        written = [json.loads(line) for line in Path(f"{name}.jsonl").read_text().splitlines()]
        assert [row["text"] for row in written] == [row["text"] for row in hidden]


def test_features_of_texts_as_they_were_cannot_be_normalised(cli: Cli) -> None:
    write_rows("in.jsonl", labelled_rows())
    assert cli("extract", "in.jsonl", "-o", "x.parquet", "--features", "blocks").code == 0
    refused = cli("train", "x.parquet", "--label", "label", "-o", "mine", "--normalise")
    assert refused.code == 1
    assert "features of texts as they were" in refused.stderr
    assert cli("train", "in.jsonl", "--label", "label", "-o", "mine", "--normalise").code == 0
    with pytest.warns(NormalisationWarning, match="'mine' reads normalised texts"):
        cli("predict", "mine", "x.parquet", "-o", "out.jsonl")
