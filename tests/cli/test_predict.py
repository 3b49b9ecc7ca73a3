from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from splinellm import SplineExtractor
from splinellm.cli import loading
from splinellm.learn.artifact import save_classifier
from splinellm.schema import FeatureSelection
from tests.cli.conftest import Result
from tests.cli.labelled import write_rows
from tests.cli.trained import ADDED, PROVENANCE, ROWS, TEXTS, read, trained
from tests.fakes import FakeExtractor, LearnableExtractor, fake_provenance
from tests.io.files import set_chunk_rows

Cli = Callable[..., Result]


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


@pytest.mark.parametrize("second", ["domain", "clf", "./clf"])
def test_a_second_classifier_is_not_taken_for_a_file(cli: Cli, folder: str, second: str) -> None:
    write_rows("in.jsonl", ROWS)
    result = cli("predict", folder, second, "in.jsonl", "-o", "out.csv")
    assert (result.code, result.stdout) == (2, b"")
    (line,) = result.stderr.splitlines()
    assert f"'{second}' is a classifier, too, and a run asks one" in line
