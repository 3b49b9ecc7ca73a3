"""``watch``: a reference of a table, and tables compared with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from splinellm.cli.watch import DRIFTED
from tests.cli.conftest import Result
from tests.cli.labelled import labelled_rows, write_rows

Cli = Callable[..., Result]


@pytest.fixture
def halves(cli: Cli) -> tuple[str, str]:
    """Two tables of the same kind of texts."""
    rows = labelled_rows(400)
    for name, part in (("a", rows[:200]), ("b", rows[200:])):
        write_rows(f"{name}.jsonl", part)
        assert cli("extract", f"{name}.jsonl", "-o", f"{name}.parquet", "--quiet").code == 0
    return "a.parquet", "b.parquet"


def test_the_same_kind_of_texts_is_no_drift_and_moved_features_are(
    cli: Cli, halves: tuple[str, str]
) -> None:
    a, b = halves
    made = cli("watch", a, "-o", "r.json")
    assert (made.code, made.stdout) == (0, b""), made.stderr
    assert "toxic" not in Path("r.json").read_text().replace("n_tokens", "")
    same = cli("watch", b, "--reference", "r.json")
    assert same.code == 0, same.stderr
    assert same.stdout.startswith(b"no drift: largest KS distance")
    table = pyarrow.parquet.read_table(b)
    name = next(n for n in table.column_names if n.endswith("sign_mean"))
    moved = pyarrow.array(np.ones(len(table), np.float32))
    table = table.set_column(table.column_names.index(name), table.schema.field(name), moved)
    pyarrow.parquet.write_table(table, "moved.parquet")
    found = cli("watch", "moved.parquet", "--reference", "r.json")
    assert found.code == DRIFTED
    lines = found.stdout.decode().splitlines()
    assert lines[0].startswith("drifted")
    assert lines[3].split()[0] == name
    told = cli("watch", "moved.parquet", "--reference", "r.json", "--json")
    assert told.code == DRIFTED
    assert json.loads(told.stdout)["drift"] > 1


def test_scores_of_a_classifier_are_watched(cli: Cli, halves: tuple[str, str]) -> None:
    a, b = halves
    options = ("--label", "label", "--features", "paper", "--quiet")
    assert cli("train", a, "-o", "clf", *options).code == 0
    assert cli("watch", a, "--classifier", "clf", "-o", "r.json").code == 0
    names = json.loads(Path("r.json").read_text())["names"]
    assert names[-2:] == ["n_tokens", "probability.toxic"]
    assert cli("watch", b, "--classifier", "clf", "--reference", "r.json").code == 0
    refused = cli("watch", b, "--reference", "r.json")
    assert refused.code == 1
    assert "--classifier" in refused.stderr
    # Of what predict wrote, scores and lengths.
    for name in "ab":
        assert cli("predict", "clf", f"{name}.jsonl", "-o", f"{name}.csv", "--quiet").code == 0
    assert cli("watch", "a.csv", "--classifier", "clf", "-o", "s.json").code == 0
    assert json.loads(Path("s.json").read_text())["names"] == ["n_tokens", "probability.toxic"]
    assert cli("watch", "b.csv", "--classifier", "clf", "--reference", "s.json").code == 0
    toxic = [row | {"text": f"toxic {row['text']}"} for row in labelled_rows(200)]
    write_rows("toxic.jsonl", toxic)
    assert cli("predict", "clf", "toxic.jsonl", "-o", "toxic.csv", "--quiet").code == 0
    drifted = cli("watch", "toxic.csv", "--classifier", "clf", "--reference", "s.json")
    assert drifted.code == DRIFTED
    assert b"probability.toxic" in drifted.stdout


def test_another_provenance_is_refused(cli: Cli, halves: tuple[str, str]) -> None:
    a, _ = halves
    assert cli("watch", a, "-o", "r.json").code == 0
    assert cli("extract", "b.jsonl", "-o", "c.parquet", "--features", "blocks").code == 0
    result = cli("watch", "c.parquet", "--reference", "r.json")
    assert result.code == 1
    assert "does not match 'r.json': features is" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "give -o"),
        (["-o", "r.json", "--reference", "x"], 2, "give -o"),
        (["--reference", "none.json"], 1, "cannot read 'none.json'"),
        (["--reference", "few.jsonl"], 1, "no reference"),
        (["-o", "no/r.json"], 1, "cannot write"),
    ],
)
def test_errors(
    cli: Cli, halves: tuple[str, str], arguments: list[str], code: int, message: str
) -> None:
    Path("few.jsonl").write_text('{"a": 1}\n')
    result = cli("watch", halves[0], *arguments)
    assert result.code == code
    assert message in result.stderr


def test_reference_does_not_replace_the_table(cli: Cli, halves: tuple[str, str]) -> None:
    a, _ = halves
    before = Path(a).read_bytes()
    result = cli("watch", a, "-o", f"./{a}")
    assert result.code == 2
    assert f"would replace the input '{a}'" in result.stderr
    assert Path(a).read_bytes() == before
