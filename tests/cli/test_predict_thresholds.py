from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from splinellm.learn.annotation import CLASSIFIER_KEY
from splinellm.learn.artifact import load_classifier, save_classifier
from tests.cli.conftest import Result
from tests.cli.labelled import write_rows
from tests.cli.trained import PROVENANCE, ROWS, TEXTS, trained
from tests.fakes import LearnableExtractor
from tests.io.files import set_chunk_rows

Cli = Callable[..., Result]


@pytest.mark.usefixtures("folder")
def test_a_threshold_of_one_run(cli: Cli) -> None:
    write_rows("in.jsonl", ROWS)
    probabilities = trained("binary").predict_table(LearnableExtractor(PROVENANCE).table(TEXTS))
    toxic = probabilities.probabilities[:, 1]
    limit = float(np.sort(toxic)[100])  # what a card of 0.5 would decide otherwise
    for told in (f"{limit!r}", f"toxic={limit!r}"):
        assert cli("predict", "clf", "in.jsonl", "-o", "out.parquet", "--threshold", told).code == 0
        found = pq.read_table("out.parquet")
        assert [it == "toxic" for it in found["predicted"].to_pylist()] == (toxic >= limit).tolist()
        np.testing.assert_array_equal(found["probability.toxic"].to_numpy(), toxic)
        record = json.loads(found.schema.metadata[CLASSIFIER_KEY])
        assert record["thresholds"] == {"toxic": limit}
    assert load_classifier("clf").card.thresholds != {"toxic": limit}


@pytest.mark.usefixtures("folder")
def test_a_run_is_not_gone_on_with_under_another_threshold(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_chunk_rows(monkeypatch, 50)
    write_rows("in.jsonl", ROWS)
    Path("bad.jsonl").write_text(Path("in.jsonl").read_text() + "{\n")
    arguments = ("predict", "clf", "bad.jsonl", "-o", "out.parquet", "--threshold")
    assert cli(*arguments, "0.9").code == 1
    refused = cli(*arguments, "0.8", "--resume")
    assert refused.code != 0
    assert "--threshold was 0.9, now it is 0.8" in refused.stderr


@pytest.mark.parametrize(
    ("kind", "told", "message"),
    [
        ("binary", "high", "is no threshold: give 0.8"),
        ("binary", "toxic=", "is no threshold"),
        ("binary", "=0.5", "is no threshold"),
        ("binary", "toxic=0.5,toxic=0.6", "is no threshold"),
        ("binary", "0.5,0.6", "is no threshold"),
        ("binary", "1.5", "is not in [0, 1]"),
        ("binary", "nan", "is not in [0, 1]"),
        ("binary", "clean=0.5", "no class 'clean' has a threshold"),
        ("multilabel", "a=0.5,x=0.5", "no class 'x' has a threshold (these have: a, b)"),
    ],
)
def test_a_threshold_that_cannot_be(
    cli: Cli, tmp_path: Path, kind: str, told: str, message: str
) -> None:
    save_classifier(trained(kind), tmp_path / "clf")
    write_rows("in.jsonl", ROWS)
    result = cli("predict", "clf", "in.jsonl", "-o", "-", "--threshold", told)
    assert (result.code, result.stdout) == (2, b"")
    assert message in " ".join(result.stderr.split())


def test_thresholds_by_class(cli: Cli, tmp_path: Path) -> None:
    save_classifier(trained("multilabel"), tmp_path / "clf")
    write_rows("in.jsonl", ROWS)
    told = ("--threshold", "a=0.9, b=0.1")
    assert cli("predict", "clf", "in.jsonl", "-o", "out.parquet", *told).code == 0
    found = pq.read_table("out.parquet")
    for name, limit in (("a", 0.9), ("b", 0.1)):
        flags = found[f"probability.{name}"].to_numpy() >= limit
        np.testing.assert_array_equal(found[f"predicted.{name}"].to_numpy(), flags)
