"""train --pool and --hybrid, predict --spans and --escalate: from file to file."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from splinellm.learn.artifact import load_classifier
from tests.cli.conftest import Result
from tests.cli.labelled import labelled_rows, write_rows
from tests.fakes import FakeExtractor

Cli = Callable[..., Result]
TRAIN = ("train", "in.jsonl", "--label", "label", "--features", "sign_mean", "-q")
POOL = ("--pool", "log-sum-exp", "--max-tokens", "60")


def rows() -> list[dict[str, Any]]:
    """Rows with the places of the word that makes them toxic."""
    return [
        {**row, "marks": [] if (at := row["text"].find("toxic")) < 0 else [[at, at + 5]]}
        for row in labelled_rows()
    ]


def read(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_a_pooled_hybrid_from_texts_to_spans_in_every_format(
    cli: Cli, fake: list[FakeExtractor]
) -> None:
    write_rows("in.jsonl", rows())
    options = ("--hybrid", "--spans", "marks", "--target-fpr", "0.05", "--abstain", "0.2")
    result = cli(*TRAIN, *POOL, *options, "-o", "mine")
    assert (result.code, result.stderr) == (0, "")
    printed = result.stdout.decode()
    for item in (
        *("geometry alone", "lexicon alone", "all channels", "error inside"),
        *("reliability by length", "mean probability", "257 to 1024 tokens"),
    ):
        assert item in printed
    assert fake.pop().seen == [row["text"] for row in rows()]
    card = load_classifier("mine").card
    assert card.settings["threshold_for"] == "fpr 0.05"
    assert card.settings["annotated windows"] > 0
    assert card.pooling is not None
    assert (card.pooling.window, card.provenance.max_tokens) == (16, 60)
    for suffix in ("jsonl", "csv", "parquet"):
        assert cli("predict", "mine", "in.jsonl", "-o", f"out.{suffix}", "--spans", "-q").code == 0
    table = pq.read_table("out.parquet").to_pylist()
    with Path("out.csv").open(newline="") as file:
        cells = [json.loads(row["spans"]) for row in csv.DictReader(file)]
    lines = read("out.jsonl")
    assert [row["spans"] for row in table] == cells == [row["spans"] for row in lines]
    assert any(cells)
    for row in table:
        for span in row["spans"]:
            assert 0 <= span["begin"] < span["end"] <= len(row["text"])
            assert span["label"] == "toxic"
    assert [row["predicted"] for row in lines] == [row["predicted"] for row in table]


def test_short_texts_inside_longer_ones_are_read_once_and_counted(
    cli: Cli, fake: list[FakeExtractor]
) -> None:
    write_rows("in.jsonl", rows())
    options = ("--pool", "log-sum-exp", "--max-tokens", "2000", "--tune-across", "source")
    assert cli(*TRAIN, *options, "-o", "plain").code == 0
    result = cli(*TRAIN[:-1], *options, "--compose", "--spans", "marks", "-o", "mine")
    assert result.code == 0
    card, plain = load_classifier("mine").card, load_classifier("plain").card
    n_composed = card.data["short texts inside others"]
    seen = fake[1].seen
    assert len(set(seen)) == len(seen) == 120 + n_composed
    assert seen[:120] == fake[0].seen == [row["text"] for row in rows()]
    assert f"{n_composed} short texts inside longer ones of class 'clean'" in result.stderr
    assert plain.data == {key: card.data[key] for key in plain.data}
    assert plain.metrics["held out"]["toxic"]["rows"] == card.metrics["held out"]["toxic"]["rows"]
    assert card.settings["annotated windows"] > 0


def test_composing_is_refused_before_a_model_is_loaded(cli: Cli, fake: list[FakeExtractor]) -> None:
    write_rows("in.jsonl", rows())
    result = cli(*TRAIN, "--hybrid", "--compose", "-o", "mine")
    assert (result.code, "--compose needs --pool" in result.stderr) == (2, True)
    sources = [*TRAIN[:3], "source", *TRAIN[4:], *POOL, "--compose", "-o", "mine"]
    result = cli(*sources)
    assert (result.code, "3 exclusive classes" in result.stderr) == (1, True)
    assert not fake
    assert cli(*sources, "--positive", "s1", "--max-tokens", "2000").code == 0


def test_what_one_is_uncertain_of_another_reads(cli: Cli, fake: list[FakeExtractor]) -> None:
    write_rows("in.jsonl", rows())
    assert cli(*TRAIN, "--abstain", "0.3", "-o", "a").code == 0
    assert cli(*TRAIN, *POOL, "-o", "b").code == 0
    for name in ("a", "b"):
        assert cli("predict", name, "in.jsonl", "-o", f"{name}.jsonl", "-q").code == 0
    fake.clear()
    result = cli("predict", "a", "in.jsonl", "-o", "out.jsonl", "--escalate", "b")
    assert result.code == 0
    alone = {name: read(f"{name}.jsonl") for name in ("a", "b")}
    found = read("out.jsonl")
    n_asked = sum(row["decided_by"] == "b" for row in found)
    assert 0 < n_asked < len(found)
    for i, row in enumerate(found):
        decided = row.pop("decided_by")
        assert row == alone[decided][i]
    assert sorted(len(one.seen) for one in fake) == [n_asked, len(found)]
    assert f"a decided {len(found) - n_asked} of 120 rows, b {n_asked} (" in result.stderr
    result = cli("predict", "a", "in.jsonl", "-o", "p.jsonl", "--escalate", "person", "-q")
    marked = read("p.jsonl")
    assert sum(row.pop("decided_by") == "person" for row in marked) == n_asked
    assert marked == alone["a"]


def test_bad_rows_of_the_second_are_rejected_alone(cli: Cli) -> None:
    write_rows("in.jsonl", rows())
    assert cli(*TRAIN, "--abstain", "0.9", "-o", "a").code == 0
    assert cli(*TRAIN, *POOL, "-o", "b").code == 0
    options = ("--escalate", "b", "--on-error", "skip")
    write_rows("new.jsonl", [*rows()[:5], {**rows()[5], "text": "NAN"}, *rows()[6:9]])
    result = cli("predict", "a", "new.jsonl", "-o", "out.jsonl", *options)
    assert result.code == 0
    assert [row["id"] for row in read("out.jsonl")] == [0, 1, 2, 3, 4, 6, 7, 8]
    assert [row["row"] for row in read("out.jsonl.rejects.jsonl")] == [6]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--target-fpr", "0.1", "--target-recall", "0.5"], 2, "choose one of"),
        (["--spans", "marks"], 2, "--spans needs --pool"),
        ([*POOL, "--estimator", "forest"], 2, "are for --estimator logistic"),
        ([*POOL, "--stride", "20"], 1, "a stride of 20 leaves tokens out"),
        ([*POOL, "--spans", "text"], 1, "row 1: the spans are not JSON"),
        ([*POOL, "--pool", "median"], 2, "'median'"),
        (["--abstain", "1"], 1, "uncertain share of 1"),
    ],
)
def test_what_cannot_be_trained_is_one_line(
    cli: Cli, arguments: list[str], code: int, message: str
) -> None:
    write_rows("in.jsonl", rows())
    result = cli(*TRAIN, *arguments, "-o", "mine")
    assert result.code == code
    assert message in result.stderr
    assert not Path("mine").exists()


def test_what_a_classifier_cannot_do_is_refused(cli: Cli) -> None:
    write_rows("in.jsonl", rows())
    assert cli(*TRAIN, "-o", "a").code == 0
    assert cli(*TRAIN, "--abstain", "0.5", "-o", "u").code == 0
    assert cli(*TRAIN[:3], "a,b", *TRAIN[4:], "-o", "a2").code == 0
    assert cli(*TRAIN, *POOL, "-o", "b").code == 0
    assert cli("extract", "in.jsonl", "-o", "x.parquet", "--features", "sign_mean").code == 0
    for arguments, code, message in [
        (["a", "in.jsonl", "--spans"], 2, "--spans is for classifiers of train --pool"),
        (["a", "in.jsonl", "--escalate", "b"], 1, "'a' is never uncertain"),
        (["u", "in.jsonl", "--escalate", "c"], 1, "no classifier 'c'"),
        (["u", "in.jsonl", "--escalate", "a2"], 1, "do not tell the same classes apart"),
        (["b", "x.parquet"], 1, "give it the texts"),
        (["u", "x.parquet", "--escalate", "b"], 2, "needs the texts"),
    ]:
        result = cli("predict", *arguments, "-o", "out.jsonl")
        assert (result.code, message in result.stderr) == (code, True), result.stderr
    refused = cli("train", "x.parquet", "--label", "label", "-o", "c", *POOL)
    assert (refused.code, "--pool reads texts" in refused.stderr) == (1, True)
    result = cli("predict", "b", "in.jsonl", "-o", "out.jsonl", "--overflow", "error")
    assert (result.code, "more than 60 tokens" in result.stderr) == (0, False)
