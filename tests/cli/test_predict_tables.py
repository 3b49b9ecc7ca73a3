from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from splinellm.learn.annotation import CLASSIFIER_KEY
from splinellm.learn.artifact import load_classifier
from splinellm.table import FeatureTable
from tests.cli.conftest import Result
from tests.cli.labelled import write_rows
from tests.cli.trained import ADDED, PROVENANCE, TEXTS, read, trained
from tests.fakes import FakeExtractor, LearnableExtractor, fake_provenance

Cli = Callable[..., Result]


@pytest.fixture
def table(folder: str) -> FeatureTable:
    """More layers than the classifier needs, which is fine."""
    record = fake_provenance(**{**asdict(PROVENANCE), "layers": (0, 1, 2)})
    return LearnableExtractor(record).table(TEXTS)


def extracted(table: FeatureTable, path: str) -> None:
    """A table as `extract` would have written it, without the texts."""
    arrow = table.to_arrow()
    columns = [pa.array(range(len(table))), pa.array(["é,\n"] * len(table)), *arrow.columns]
    names = ["id", "note", *arrow.column_names]
    whole = pa.table(columns, names=names).replace_schema_metadata(arrow.schema.metadata)
    if path.endswith(".parquet"):
        pq.write_table(whole, path, row_group_size=50)
        return
    Path(f"{path}.provenance.json").write_text(table.provenance.to_json())
    write_rows(path, whole.to_pylist())


@pytest.mark.parametrize("source", ["x.parquet", "x.csv", "x.jsonl"])
@pytest.mark.parametrize("output", ["out.parquet", "out.jsonl", "out.csv"])
def test_an_extracted_table_is_classified_without_a_model(
    cli: Cli, fake: list[FakeExtractor], table: FeatureTable, source: str, output: str
) -> None:
    extracted(table, source)
    assert cli("predict", "clf", source, "-o", output).code == 0
    assert not fake
    found = read(output)
    assert list(found) == ["id", "note", *ADDED]
    assert [int(value) for value in found["id"]] == list(range(120))
    assert set(found["note"]) == {"é,\n"}
    expected = trained("binary").predict_table(table)
    numbers = np.array([found["probability.clean"], found["probability.toxic"]], np.float64)
    np.testing.assert_allclose(numbers.T, expected.probabilities, rtol=1e-12)
    assert found["predicted"] == expected.predicted
    assert [int(value) for value in found["n_tokens"]] == table.n_tokens.tolist()


def test_a_folder_of_extracted_parquet(cli: Cli, table: FeatureTable) -> None:
    Path("parts").mkdir()
    extracted(table[:50], "parts/1.parquet")
    extracted(table[50:], "parts/2.parquet")
    assert cli("predict", "clf", "parts", "-o", "out.parquet").code == 0
    assert read("out.parquet")["predicted"] == trained("binary").predict_table(table).predicted


def test_features_alone_are_enough(cli: Cli, table: FeatureTable) -> None:
    table.to_parquet("x.parquet")
    assert cli("predict", "clf", "x.parquet", "-o", "out.jsonl").code == 0
    assert list(read("out.jsonl")) == ADDED


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "bfloat16"}, "dtype is bfloat16, not float32"),
        ({"layers": (0, 1)}, "layers is (0, 1), not (0, 2)"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_other_features_are_refused_by_their_first_difference(
    cli: Cli, change: dict[str, Any], message: str
) -> None:
    record = fake_provenance(**{**asdict(PROVENANCE), **change})
    LearnableExtractor(record).table(TEXTS).to_parquet("x.parquet")
    result = cli("predict", "clf", "x.parquet", "-o", "out.csv")
    assert result.code == 1
    (line,) = result.stderr.splitlines()
    assert message in line
    assert not list(Path().glob("out*"))


@pytest.mark.parametrize("source", ["x.parquet", "x.csv", "x.jsonl"])
def test_columns_of_a_table_that_are_not_wanted_are_left_out(
    cli: Cli, table: FeatureTable, source: str
) -> None:
    extracted(table, source)
    whole = read_lines(cli("predict", "clf", source, "-o", "-"))
    for option, kept in (("--columns=id", ["id"]), ("--columns=", [])):
        some = read_lines(cli("predict", "clf", source, "-o", "-", option))
        added = [name for name in whole[0] if name not in ("id", "note")]
        assert [list(row) for row in some] == [[*kept, *added]] * len(table)
        assert some == [{name: row[name] for name in [*kept, *added]} for row in whole]
    result = cli("predict", "clf", source, "-o", "-", "--columns", "id", "--text-column", "note")
    assert list(read_lines(result)[0])[:2] == ["id", "note"]


def read_lines(result: Result) -> list[dict[str, Any]]:
    assert result.code == 0
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_row_without_a_feature_is_a_bad_row(cli: Cli, table: FeatureTable) -> None:
    extracted(table[:3], "x.jsonl")
    lines = Path("x.jsonl").read_text().splitlines()
    broken = json.loads(lines[1])
    broken["layer_02.sign_mean"] = None
    Path("x.jsonl").write_text("\n".join([lines[0], json.dumps(broken), "{", lines[2]]))
    result = cli("predict", "clf", "x.jsonl", "-o", "out.csv")
    assert result.code == 1
    assert "x.jsonl: row 2: column 'layer_02.sign_mean' has no number" in result.stderr
    assert cli("predict", "clf", "x.jsonl", "-o", "out.csv", "--on-error", "skip").code == 0
    assert read("out.csv")["id"] == ["0", "2"]
    rejects = [json.loads(x) for x in Path("out.csv.rejects.jsonl").read_text().splitlines()]
    assert [reject["code"] for reject in rejects] == ["invalid_features", "invalid_json"]
    assert rejects[0]["columns"]["layer_00.sign_mean"] == pytest.approx(table.values[1, 0])


def test_a_table_without_its_columns_is_refused(cli: Cli, table: FeatureTable) -> None:
    pq.write_table(table.to_arrow().drop_columns("layer_01.sign_mean"), "x.parquet")
    result = cli("predict", "clf", "x.parquet", "-o", "out.csv")
    assert result.code == 1
    assert "column 'layer_01.sign_mean' is missing" in result.stderr


def test_parquet_says_what_made_it_and_is_no_feature_table(cli: Cli, table: FeatureTable) -> None:
    table.to_parquet("x.parquet")
    assert cli("predict", "clf", "x.parquet", "-o", "out.parquet").code == 0
    (key,) = pq.read_schema("out.parquet").metadata
    assert key == CLASSIFIER_KEY
    record = json.loads(pq.read_schema("out.parquet").metadata[CLASSIFIER_KEY])
    assert record["classifier_sha256"] == load_classifier("clf").card.classifier_sha256


def test_features_are_classified_without_torch(table: FeatureTable, tmp_path: Path) -> None:
    table.to_parquet(tmp_path / "x.parquet")
    script = """
import sys
from splinellm.cli import run
assert run(["predict", "clf", "x.parquet", "-o", "out.csv"]) == 0
slow = {"torch", "transformers"} & set(sys.modules)
assert not slow, slow
"""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SPLINELLM_")}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "splinellm: 120 rows written\n")
