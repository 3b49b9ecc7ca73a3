from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from splinellm import SplineExtractor
from splinellm.cli import loading
from splinellm.learn.annotation import CLASSIFIER_KEY
from splinellm.learn.artifact import load_classifier, save_classifier
from splinellm.learn.classifier import Classifier
from splinellm.learn.labels import Labels
from splinellm.learn.training import train
from splinellm.schema import FeatureSelection
from splinellm.table import FeatureTable
from tests.cli.conftest import Result
from tests.cli.labelled import labelled_rows, write_rows
from tests.fakes import FakeExtractor, LearnableExtractor, fake_provenance
from tests.io.files import set_chunk_rows

Cli = Callable[..., Result]
ROWS = labelled_rows()
TEXTS = [row["text"] for row in ROWS]
PROVENANCE = fake_provenance(
    features=FeatureSelection.parse("sign_mean,blocks:4").names, n_blocks=4, dimension_threshold=0.2
)
ADDED = ["n_tokens", "truncated", "predicted", "probability.clean", "probability.toxic"]


@cache
def trained(kind: str) -> Classifier:
    columns = ["label"] if kind == "binary" else ["a", "b"]
    labels = Labels.from_columns({name: [row[name] for row in ROWS] for name in columns})
    return train(LearnableExtractor(PROVENANCE).table(TEXTS), labels, name=kind)


@pytest.fixture
def folder(tmp_path: Path) -> str:
    save_classifier(trained("binary"), tmp_path / "clf")
    return "clf"


def read(path: str) -> dict[str, list[Any]]:
    """Read a table, with the types of its columns."""
    if path.endswith(".parquet"):
        columns: dict[str, list[Any]] = pq.read_table(path).to_pydict()
        return columns
    with Path(path).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file)) if path.endswith(".csv") else list(map(json.loads, file))
    return {name: [row[name] for row in rows] for name in rows[0]}


@pytest.mark.parametrize("output", ["out.parquet", "out.jsonl", "out.csv"])
@pytest.mark.usefixtures("folder")
def test_rows_arrive_in_order_with_what_the_classifier_says(cli: Cli, output: str) -> None:
    write_rows("in.jsonl", ROWS)
    result = cli("predict", "clf", "in.jsonl", "-o", output)
    assert (result.code, result.stdout) == (0, b"")
    assert result.stderr == "splinellm: 120 rows written\n"
    found = read(output)
    assert list(found) == [*ROWS[0], *ADDED]
    assert [int(value) for value in found["id"]] == list(range(120))
    assert found["text"] == TEXTS
    table = LearnableExtractor(PROVENANCE).table(TEXTS)
    expected = trained("binary").predict_table(table)
    assert found["predicted"] == expected.predicted
    numbers = np.array([found["probability.clean"], found["probability.toxic"]], np.float64)
    assert (expected.probabilities == numbers.T).all()  # every digit, also in text
    assert [int(value) for value in found["n_tokens"]] == table.n_tokens.tolist()
    if output != "out.csv":
        assert found["truncated"] == table.truncated.tolist()
    assert sorted(path.name for path in Path().iterdir()) == ["clf", "in.jsonl", output]


@pytest.mark.parametrize("output", ["out.parquet", "out.csv"])
def test_verdicts_that_are_there_are_those_of_this_classifier(
    cli: Cli, fake: list[FakeExtractor], folder: str, output: str
) -> None:
    write_rows("in.jsonl", ROWS[:5])
    run = ("predict", folder, "in.jsonl", "-o", output, "--resume")
    done = f"splinellm: already done: 5 rows in {output}; nothing to compute\n"
    assert cli(*run).stderr == "splinellm: 5 rows written\n"
    assert cli(*run).stderr == done
    assert cli(*run, "--threshold", "0.9").stderr == "splinellm: 5 rows written\n"
    assert cli(*run).stderr == "splinellm: 5 rows written\n"
    # The same estimator under another threshold, as set-threshold writes it.
    save_classifier(trained("binary").with_threshold(0.9), folder)
    assert cli(*run).stderr == "splinellm: 5 rows written\n"
    assert cli(*run).stderr == done
    assert fake[-1].seen == []


@pytest.mark.parametrize("output", ["out.parquet", "-"])
def test_multilabel_has_a_flag_and_a_probability_per_label(
    cli: Cli, tmp_path: Path, output: str
) -> None:
    save_classifier(trained("multilabel"), tmp_path / "clf")
    write_rows("in.jsonl", ROWS)
    result = cli("predict", "clf", "in.jsonl", "-o", output)
    assert result.code == 0
    if output == "-":
        Path("out.jsonl").write_bytes(result.stdout)
        output = "out.jsonl"
    found = read(output)
    expected = trained("multilabel").predict_table(LearnableExtractor(PROVENANCE).table(TEXTS))
    assert list(found)[-6:] == [*ADDED[:2], *expected.to_arrow().column_names]
    assert found["predicted.b"] == expected.flags[:, 1].tolist()
    assert found["probability.b"] == expected.probabilities[:, 1].tolist()


@pytest.mark.usefixtures("folder")
def test_the_extractor_is_that_of_the_card(cli: Cli, fake: list[FakeExtractor]) -> None:
    write_rows("in.jsonl", ROWS)
    options = ("--device", "cuda:1", "--device-map", "auto", "--batch-tokens", "77")
    assert cli("predict", "clf", "in.jsonl", "-o", "out.csv", *options).code == 0
    assert fake[0].settings == {
        "model": "fake",
        "layers": (0, 2),
        "features": FeatureSelection(PROVENANCE.features, 4),
        "max_tokens": 8,
        "batch_tokens": 77,
        "dtype": "float32",
        "device": "cuda:1",
        "device_map": "auto",
        "dimension_rule": "relative",
        "dimension_threshold": 0.2,
        "allow_special_tokens": False,
    }
    assert fake[0].settings.keys() <= signature(SplineExtractor.from_pretrained).parameters.keys()
    assert cli("predict", "clf", "in.jsonl", "-o", "out.csv", "--model", "moved").code == 0
    assert fake[1].settings["model"] == "moved"


@pytest.mark.usefixtures("folder")
def test_another_backbone_is_refused_by_its_first_difference(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = fake_provenance(**{**asdict(PROVENANCE), "weights_sha256": "1" * 64})
    extractor = LearnableExtractor(other)
    monkeypatch.setattr(loading, "load_extractor", lambda **_settings: extractor)
    write_rows("in.jsonl", ROWS)
    result = cli("predict", "clf", "in.jsonl", "-o", "out.csv")
    assert (result.code, result.stdout) == (1, b"")
    (line,) = result.stderr.splitlines()
    assert "do not match the classifier: weights_sha256 is 111" in line
    assert not extractor.seen
    assert sorted(path.name for path in Path().iterdir()) == ["clf", "in.jsonl"]


@pytest.mark.usefixtures("folder")
def test_bad_rows_stop_the_run_or_go_to_the_rejects(cli: Cli) -> None:
    Path("in.jsonl").write_text('{"text": "one"}\n{"text": "NAN"}\n{"text": ""}\n{"text": "toxic"}')
    result = cli("predict", "clf", "in.jsonl", "-o", "out.csv")
    assert result.code == 1
    assert "in.jsonl: row 2: the forward pass overflowed" in result.stderr
    result = cli("predict", "clf", "in.jsonl", "-o", "out.csv", "--on-error", "skip")
    assert result.code == 0
    assert result.stderr.endswith("2 rows written, 2 rejected, see out.csv.rejects.jsonl\n")
    assert read("out.csv")["predicted"] == ["clean", "toxic"]
    rejects = map(json.loads, Path("out.csv.rejects.jsonl").read_text().splitlines())
    assert [reject["row"] for reject in rejects] == [2, 3]


@pytest.mark.usefixtures("folder")
def test_goes_on_where_it_was(
    cli: Cli, fake: list[FakeExtractor], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_chunk_rows(monkeypatch, 2)
    Path("in.csv").write_text("text\none\ntwo\ntoxic\nfour\n")
    load = loading.load_extractor

    def load_failing(**settings: Any) -> Any:
        extractor: Any = load(**settings)
        extractor.raises = {"toxic": KeyboardInterrupt()}
        return extractor

    monkeypatch.setattr(loading, "load_extractor", load_failing)
    assert cli("predict", "clf", "in.csv", "-o", "out.csv").code == 130
    monkeypatch.setattr(loading, "load_extractor", load)
    save_classifier(trained("multilabel"), Path("other"))
    result = cli("predict", "other", "in.csv", "-o", "out.csv", "--resume")
    assert (result.code, result.stderr.count("\n")) == (1, 1)
    assert "the classifier was " in result.stderr
    result = cli("predict", "clf", "in.csv", "-o", "out.csv", "--resume")
    assert result.stderr == "splinellm: 4 rows written, 2 of them computed before\n"
    assert fake[-1].seen == ["toxic", "four"]
    assert cli("predict", "clf", "in.csv", "-o", "plain.csv").code == 0
    assert Path("out.csv").read_bytes() == Path("plain.csv").read_bytes()


@pytest.mark.parametrize("column", ["predicted", "probability.toxic", "n_tokens"])
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
@pytest.mark.usefixtures("folder")
def test_a_column_that_is_there_already_is_refused_by_name(
    cli: Cli, column: str, suffix: str
) -> None:
    write_rows(f"in.{suffix}", [{"text": "a", column: "b"}])
    result = cli("predict", "clf", f"in.{suffix}", "-o", "out.jsonl")
    assert result.code == 1
    assert f"already has a column '{column}', which the output adds" in result.stderr
    assert not list(Path().glob("out*"))


@pytest.mark.usefixtures("folder")
def test_a_column_that_only_another_classifier_adds_is_kept(cli: Cli) -> None:
    write_rows("in.csv", [{"text": "a", "probability.spam": "b"}])
    assert cli("predict", "clf", "in.csv", "-o", "out.csv").code == 0
    assert read("out.csv")["probability.spam"] == ["b"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ["clf", "in.csv", "-o", "x.npz"],
            2,
            ".npz is for features only (use .parquet .arrow .csv",
        ),
        (["clf", "in.csv", "-o", "x.xlsx"], 2, "unknown suffix"),
        (["clf", "in.csv", "-o", "in.csv"], 2, "would replace the input"),
        (["clf", "none.csv", "-o", "x.csv"], 1, "'none.csv' does not exist"),
        (["none", "in.csv", "-o", "x.csv"], 1, "there is no classifier 'none'"),
        (["clf", "in.csv", "-o", "x.csv", "--text-column", "t"], 1, "has no column 't'"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_what_cannot_be_done_is_one_line_before_the_model_loads(
    cli: Cli, fake: list[FakeExtractor], arguments: list[str], code: int, message: str
) -> None:
    write_rows("in.csv", ROWS)
    result = cli("predict", *arguments)
    assert (result.code, result.stdout) == (code, b"")
    (line,) = result.stderr.splitlines()
    assert message in line
    assert not fake


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


@pytest.mark.parametrize("second", ["domain", "clf", "./clf"])
def test_a_second_classifier_is_not_taken_for_a_file(cli: Cli, folder: str, second: str) -> None:
    write_rows("in.jsonl", ROWS)
    result = cli("predict", folder, second, "in.jsonl", "-o", "out.csv")
    assert (result.code, result.stdout) == (2, b"")
    (line,) = result.stderr.splitlines()
    assert f"'{second}' is a classifier, too, and a run asks one" in line


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
