"""splinellm classifiers: what there is, what it gets wrong, and thresholds of one's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from splinellm.learn.artifact import boxed_names, load_card, load_classifier
from splinellm.learn.metrics import Target
from splinellm.learn.thresholds import ThresholdWarning
from tests.cli.conftest import Result
from tests.cli.labelled import labelled_rows, write_rows
from tests.fakes import FakeExtractor, LearnableExtractor

Cli = Callable[..., Result]


def test_the_list_and_one_of_them(cli: Cli) -> None:
    result = cli("classifiers")
    assert result.code == 0
    listed = [line.split()[0] for line in result.stdout.decode().splitlines()[1:]]
    assert listed == boxed_names()
    shown = cli("classifiers", "toxicity").stdout.decode()
    for weakness in load_card("toxicity").weaknesses:
        assert weakness in shown
    assert "ROC-AUC" in shown
    assert "threshold of toxic: 0.5000 (the default)" in shown
    missing = cli("classifiers", "none")
    assert (missing.code, "no classifier 'none'" in missing.stderr) == (1, True)


def test_no_threshold_is_told_where_none_decides(cli: Cli) -> None:
    shown = cli("classifiers", "domain").stdout.decode()
    assert "threshold of" not in shown
    assert "no threshold decides: the most probable class is chosen" in shown


@pytest.fixture
def mine(cli: Cli, fake: list[FakeExtractor], monkeypatch: pytest.MonkeyPatch) -> str:
    """A trained folder, whose model is the fake wherever it is asked for."""
    write_rows("in.jsonl", labelled_rows())
    assert cli("train", "in.jsonl", "--label", "label", "-o", "mine", "--abstain", "0.2").code == 0
    monkeypatch.setattr(
        "splinellm.learn.classifier.Classifier.default_extractor",
        lambda self: LearnableExtractor(self.card.provenance),
    )
    return "mine"


def test_a_threshold_of_ones_own(cli: Cli, mine: str) -> None:
    rows = [{**row, "text": f"other {row['text']}"} for row in labelled_rows(1400)]
    random = np.random.default_rng(3)
    for row in rows:  # one label in twenty is wrong, or the target would ask for nothing
        if random.random() < 0.05:
            row["label"] = "clean" if row["label"] == "toxic" else "toxic"
    write_rows("new.csv", rows)
    told = ("--data", "new.csv", "--target-fpr", "0.02")
    result = cli("classifiers", "set-threshold", mine, *told)
    assert result.code == 0
    assert result.stderr.splitlines()[-2] == "splinellm: classifier written to mine-fpr-0.02"
    assert "predict mine-fpr-0.02 INPUT -o OUTPUT" in result.stderr.splitlines()[-1]
    card = load_card("mine-fpr-0.02")
    assert card.name == "mine-fpr-0.02"
    assert card.settings["threshold_for"] == "fpr 0.02"
    figures = card.metrics["threshold"]["toxic"]
    low, high = figures["intervals"]["threshold"]
    assert low <= card.thresholds["toxic"] == figures["threshold"] <= high
    frame = load_classifier("mine-fpr-0.02").scores([row["text"] for row in rows])
    flagged = frame["predicted"] == "toxic"
    clean = np.array([row["label"] == "clean" for row in rows])
    assert flagged[clean].mean() == pytest.approx(figures["fpr"])
    assert figures["fpr"] <= 0.02
    assert "threshold" in Path("mine-fpr-0.02/README.md").read_text()
    held_out = card.metrics["held out"]["toxic"]
    assert {"roc_auc", "brier"} <= set(held_out)
    assert not {"precision", "recall", "fpr"} & {*held_out, *held_out.get("intervals", {})}
    assert next(iter(card.metrics)) == "threshold"
    assert "uncertain" in load_card(mine).metrics
    assert "uncertain" not in card.metrics
    shown = cli("classifiers", "mine-fpr-0.02").stdout.decode()
    assert 0 < shown.index("chosen on your rows") < shown.index("held out")
    assert f"{figures['fpr']:.2%}" in shown
    assert shown[shown.index("held out") :].count("false positives") == 0
    assert load_card(mine).thresholds == {"toxic": 0.5}
    again = cli("classifiers", "set-threshold", mine, *told)
    assert (again.code, "--force replaces it" in again.stderr) == (2, True)
    chosen = load_classifier(mine).with_target(
        [row["text"] for row in rows], [row["label"] for row in rows], Target("fpr", 0.02)
    )
    assert chosen.card.thresholds == card.thresholds


def test_labels_with_other_names(cli: Cli, mine: str) -> None:
    """They had to be renamed in the file before."""
    rows = labelled_rows(200)
    write_rows("named.csv", rows)
    others = {"toxic": "hate", "clean": "none"}
    write_rows("other.csv", [{**row, "label": others[row["label"]]} for row in rows])
    mixed = [others[row["label"]] if i % 4 else row["text"] for i, row in enumerate(rows)]
    mixed = ["hate" if row["label"] == "toxic" else x for row, x in zip(rows, mixed, strict=True)]
    write_rows("many.csv", [{**row, "label": x} for row, x in zip(rows, mixed, strict=True)])
    told = ("--target-recall", "0.9", "-q")
    assert cli("classifiers", "set-threshold", mine, "--data", "named.csv", *told).code == 0
    wanted = load_card("mine-recall-0.9")
    for data in ("other.csv", "many.csv"):
        more = ("--data", data, "--positive", "hate", "-o", data[:-4])
        result = cli("classifiers", "set-threshold", mine, *told, *more)
        assert result.code == 0, result.stderr
        assert load_card(data[:-4]).thresholds == wanted.thresholds
        assert (
            load_card(data[:-4]).metrics["threshold"]["toxic"]["precision"]
            == (wanted.metrics["threshold"]["toxic"]["precision"])
        )
    failed = cli("classifiers", "set-threshold", mine, "--data", "other.csv", "-o", "no", *told)
    assert failed.code == 1
    assert "--positive names the label of yours that stands for 'toxic'" in failed.stderr
    typo = ("--data", "other.csv", "--positive", "hat", "-o", "typo")
    result = cli("classifiers", "set-threshold", mine, *typo, *told)
    assert result.code == 1
    assert "no row has the label 'hat' (its labels are 'hate', 'none')" in (result.stderr)


def test_rows_that_say_little_are_warned_about(cli: Cli, mine: str) -> None:
    told = ("--data", "in.jsonl", "--target-recall", "0.9", "-o", "again")
    result = cli("classifiers", "set-threshold", mine, *told)
    assert result.code == 0
    assert "was trained on these rows" in result.stderr
    write_rows("part.jsonl", [{**row, "id": 0} for row in labelled_rows()[:30]])
    result = cli("classifiers", "set-threshold", mine, "--data", "part.jsonl", *told[2:5], "b")
    assert "was trained on these rows" in result.stderr  # known by their texts
    assert "15 rows with 'toxic' are too few for a recall" in result.stderr
    with pytest.warns(ThresholdWarning, match="too few for a rate of 0.01: about 500"):
        load_classifier(mine).with_target(
            ["new toxic", "new"] * 10, [1, 0] * 10, Target("fpr", 0.01)
        )


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--target-fpr", "0.1", "--label", "text"], 1, "labels are clean and toxic, or 0 and 1"),
        (["--target-fpr", "0.1", "--label", "none"], 1, "no column 'none'"),
        (["--target-fpr", "0.1", "--label", "none"], 1, "--label names the column"),
        (["--target-fpr", "0.1", "--target-recall", "0.1"], 2, "choose one"),
        ([], 2, "give --target-fpr"),
    ],
)
def test_what_cannot_be_chosen_is_one_line(
    cli: Cli,
    mine: str,
    arguments: list[str],
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_model(self: object) -> None:
        raise AssertionError("the model is loaded before the labels are checked")

    monkeypatch.setattr("splinellm.learn.classifier.Classifier.default_extractor", no_model)
    result = cli("classifiers", "set-threshold", mine, "--data", "in.jsonl", *arguments)
    assert (result.code, message in result.stderr) == (code, True), result.stderr


def test_a_card_without_hashes_cannot_tell_what_it_was_trained_on(cli: Cli, mine: str) -> None:
    path = Path(mine, "card.json")
    card = json.loads(path.read_text())
    del card["data"]["text_hashes"]
    card["data"] |= {"name": "jigsaw, surge", "sha256": "0" * 64}
    path.write_text(json.dumps(card))
    told = ("--data", "in.jsonl", "--target-recall", "0.9", "-o", "again", "-q")
    result = cli("classifiers", "set-threshold", mine, *told)
    assert result.code == 0
    assert "cannot be told" in result.stderr
    assert "it learned from jigsaw, surge" in result.stderr
    assert "classifier written" not in result.stderr
