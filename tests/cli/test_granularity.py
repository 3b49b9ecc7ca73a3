"""A row per token or prefix on the command line, and what refuses such rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from splinellm.learn.card import Card
from splinellm.learn.classifier import Classifier
from splinellm.table import FeatureTable
from tests.cli.conftest import Result
from tests.cli.texts import ONE_BAD, ROWS
from tests.fakes import FakeExtractor, fake_provenance

Cli = Callable[..., Result]


@pytest.mark.parametrize("granularity", ["prefix", "token"])
@pytest.mark.parametrize("output", ["out.parquet", "out.csv", "out.jsonl", "out.npz", "-"])
def test_row_per_token(cli: Cli, fake: list[FakeExtractor], granularity: Any, output: str) -> None:
    Path("in.jsonl").write_bytes(ROWS)
    result = cli("extract", "in.jsonl", "-o", output, "--granularity", granularity)
    assert result.code == 0
    assert result.stderr.splitlines() == ["splinellm: 11 rows written"]  # one, two, three
    expected = fake[0].token_table(dict(enumerate(["one", "two", "three"])), granularity)
    assert "granularity" not in fake[0].settings
    if output == "-":
        records = [json.loads(line) for line in result.stdout.splitlines()]
        assert [list(record)[:8] for record in records] == [
            ["id", "row", "position", "token", "begin", "end", "n_tokens", "truncated"]
        ] * 11
        assert [record["id"] for record in records] == [1] * 3 + [2] * 3 + [3] * 5
        assert "".join(record["token"] for record in records) == "onetwothree"
        found = [[record[name] for name in expected.names] for record in records]
        np.testing.assert_array_equal(np.array(found, np.float32), expected.values)
        return
    table: FeatureTable = getattr(FeatureTable, f"from_{output[4:]}")(output)
    np.testing.assert_array_equal(table.values, expected.values)
    assert table.provenance == expected.provenance


def test_row_per_token_with_bad_rows(
    cli: Cli, fake: list[FakeExtractor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPLINELLM_GRANULARITY", "prefix")
    Path("in.jsonl").write_bytes(ONE_BAD)
    result = cli("extract", "in.jsonl", "-o", "out.csv")
    assert result.code == 1
    assert "in.jsonl: row 2: " in result.stderr
    result = cli("extract", "in.jsonl", "-o", "out.csv", "--on-error", "skip")
    assert result.code == 0
    assert result.stderr.splitlines() == [
        "splinellm: 8 rows written, 1 rejected, see out.csv.rejects.jsonl"
    ]
    found = FeatureTable.from_csv("out.csv")
    assert found.tokens is not None
    assert found.tokens.row.tolist() == [0] * 3 + [2] * 5
    assert found.n_tokens.tolist() == [1, 2, 3, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("name", ["row", "position", "token", "begin", "end"])
def test_token_columns_are_reserved_only_where_they_are_added(cli: Cli, name: str) -> None:
    Path("in.jsonl").write_text(json.dumps({name: "mine", "text": "one"}) + "\n")
    assert cli("extract", "in.jsonl", "-o", "out.jsonl").code == 0
    assert json.loads(Path("out.jsonl").read_text())[name] == "mine"
    result = cli("extract", "in.jsonl", "-o", "token.jsonl", "--granularity", "token")
    assert result.code == 1
    assert f"already has a column '{name}'" in result.stderr
    assert not Path("token.jsonl").exists()


@pytest.mark.parametrize("granularity", ["prefix", "token"])
@pytest.mark.parametrize(
    "command",
    [
        ["train", "rows.parquet", "--label", "id", "-o", "classifier"],
        ["evaluate", "rows.parquet", "--label", "id"],
        ["predict", "toxicity", "rows.parquet", "-o", "out.csv"],
    ],
    ids=lambda command: command[0],
)
def test_commands_that_learn_refuse_a_row_per_token(
    cli: Cli, granularity: str, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("splinellm.learn.artifact.load_classifier", lambda _name: trained())
    Path("in.jsonl").write_bytes(ROWS)
    assert cli("extract", "in.jsonl", "-o", "rows.parquet", "--granularity", granularity).code == 0
    result = cli(*command)
    assert (result.code, result.stdout) == (1, b"")
    (line,) = result.stderr.splitlines()
    assert f"'rows.parquet' has a row per {granularity}, not one per prompt" in line


def trained() -> Classifier:
    """Made for the fake's features."""
    card = Card(
        "toxicity", "binary", ("clean", "toxic"), {"toxic": 0.5}, fake_provenance(), {}, {}, {}
    )
    return Classifier([], card)
