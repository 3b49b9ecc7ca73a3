"""Conversations from files: three formats, the same numbers as over HTTP; training on them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from splinellm import SplineExtractor
from splinellm.cli import loading
from splinellm.conversations import COUNTS, said
from splinellm.io.feature_files import read_features
from splinellm.learn.artifact import load_classifier, save_classifier
from splinellm.learn.labels import Labels
from splinellm.learn.training import train
from tests.chats import CHATML
from tests.cli.conftest import Result
from tests.conversing import (
    FEATURES,
    Chat,
    ask,
    backbone,
    chats,
    extractor,
    items,
    pieces,
    pooled,
)

Cli = Callable[..., Result]
SUFFIXES = ("jsonl", "csv", "parquet")


def write(suffix: str, rows: list[Chat], **columns: list[Any]) -> str:
    path = f"in.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.table({"messages": rows, **columns}), path)
    else:
        cells = rows if suffix == "jsonl" else [json.dumps(row) for row in rows]
        table = {"messages": cells, **columns}
        records = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
        if suffix == "jsonl":
            Path(path).write_text("".join(json.dumps(it) + "\n" for it in records))
        else:
            with Path(path).open("w", newline="") as file:
                writer = csv.DictWriter(file, list(table))
                writer.writeheader()
                writer.writerows(records)
    Path("chatml.jinja").write_text(CHATML)
    return path


@pytest.fixture
def tiny(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command line with a small real model."""
    monkeypatch.setattr(loading, "load_extractor", extractor)
    return cli


@pytest.mark.parametrize("count", COUNTS)
def test_three_formats_and_http_agree(tiny: Cli, count: str) -> None:
    # Every chat has what counts.
    rows = [chat for chat in chats(20) if count != "system" or chat[0]["role"] == "system"][:10]
    found = []
    for suffix in SUFFIXES:
        arguments = ("--messages-column", "messages", "--count", count, "--features", FEATURES)
        path = write(suffix, rows)
        output = f"{suffix}.parquet"
        result = tiny(
            "extract", path, "-o", output, *arguments, "--chat-template", "chatml.jinja", "-q"
        )
        assert (result.code, result.stderr) == (0, "")
        table = read_features(output)
        assert table.provenance.count == count
        found.append(table.values)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    data = ask("/v1/features", {"input": items(rows), "count": count, "features": FEATURES})["data"]
    over_http = np.array([np.ravel(row["values"]) for row in data], np.float32)
    np.testing.assert_allclose(over_http, found[0], rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_classifier_of_answers(tiny: Cli, suffix: str) -> None:
    rows = chats()
    labels = ["toxic" if i % 2 else "clean" for i in range(len(rows))]
    path = write(suffix, rows, label=labels)
    told = ("--messages-column", "messages", "--chat-template", "chatml.jinja", "-q")
    result = tiny("train", path, "--label", "label", "-o", "mine", "--count", "last", *told)
    assert (result.code, result.stderr) == (0, "")
    classifier = load_classifier("mine")
    assert classifier.card.provenance.count == "last"
    assert classifier.card.provenance.chat_template_sha256 is not None
    result = tiny("predict", "mine", path, "-o", "out.parquet", *told)
    assert (result.code, result.stderr) == (0, "")
    probabilities = pq.read_table("out.parquet")["probability.toxic"].to_numpy()
    of_python = classifier.predict_texts(rows, extractor(count="last", features="blocks"))
    np.testing.assert_allclose(probabilities, of_python.probabilities[:, 1], rtol=1e-5, atol=1e-6)
    data = ask("/v1/classify", {"input": items(rows[:8])}, classifier)["data"]
    over_http = [row["probabilities"]["toxic"] for row in data]
    np.testing.assert_allclose(over_http, probabilities[:8], rtol=1e-4, atol=1e-5)
    refused = tiny("predict", "mine", path, "-o", "-", "--count", "user", *told)
    assert refused.code == 2
    assert "trained on --count last" in refused.stderr


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_evaluate_reads_conversations(tiny: Cli, suffix: str) -> None:
    rows = chats()
    path = write(suffix, rows, label=[i % 2 for i in range(len(rows))])
    told = ("--messages-column", "messages", "--chat-template", "chatml.jinja", "--count", "last")
    options = ("--no-ablations", "--folds", "2", "--features", FEATURES, "-q")
    result = tiny("evaluate", path, "--label", "label", *told, *options)
    assert result.code == 0, result.stderr
    lines = result.stdout.decode()
    assert "TF-IDF" in lines
    assert "hidden" in lines


def test_count_is_for_conversations(tiny: Cli) -> None:
    write("jsonl", chats(4))
    for command in (
        ["train", "in.jsonl", "--label", "x", "-o", "mine"],
        ["evaluate", "in.jsonl", "--label", "x"],
    ):
        result = tiny(*command, "--count", "last")
        assert result.code == 2
        assert "--messages-column" in result.stderr


def test_bad_conversations_are_rows_of_their_own(tiny: Cli) -> None:
    good = chats(40)
    bad: list[Any] = [
        [{"role": "tool", "content": "x"}],
        [{"role": "user", "content": ""}],
        [],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}],
    ]
    path = write("jsonl", [*bad, *good], label=[i % 2 for i in range(len(bad) + len(good))])
    told = (
        "--label",
        "label",
        "-o",
        "mine",
        "--messages-column",
        "messages",
        "--chat-template",
        "chatml.jinja",
    )
    result = tiny("train", path, *told, "-q")
    assert result.code == 1
    assert "messages[0].role" in result.stderr
    result = tiny("train", path, *told, "--on-error", "skip")
    assert result.code == 0, result.stderr
    assert "4 rows that cannot be used were left out" in result.stderr
    assert load_classifier("mine").card.data["rows"] == 40


def test_rows_in_which_nothing_counts_are_bad(tiny: Cli) -> None:
    rows = chats(40)  # every second one has no system's message
    path = write("jsonl", rows, label=[i // 2 % 2 for i in range(len(rows))])
    told = (
        "--label",
        "label",
        "-o",
        "mine",
        "--messages-column",
        "messages",
        "--chat-template",
        "chatml.jinja",
    )
    result = tiny("train", path, *told, "--count", "system")
    assert result.code == 1
    assert "no message of the system" in result.stderr
    result = tiny("train", path, *told, "--count", "system", "--on-error", "skip", "-q")
    assert "20 rows" in result.stderr


def test_a_pooled_classifier_predicts_files_of_conversations(tiny: Cli) -> None:
    rows = chats(12)
    save_classifier(pooled(), "pooled")
    for suffix in SUFFIXES:
        path = write(suffix, rows)
        told = ("--messages-column", "messages", "--count", "last", "--spans", "-q")
        result = tiny("predict", "pooled", path, "-o", f"out{suffix}.parquet", *told)
        assert (result.code, result.stderr) == (0, "")
        found = pq.read_table(f"out{suffix}.parquet")["probability.toxic"].to_numpy()
        alone = pooled().predict_texts([said(row, "last") for row in rows], pieces())
        np.testing.assert_array_equal(found, alone.probabilities[:, 1])


def test_training_with_windows_takes_texts(tiny: Cli) -> None:
    path = write("jsonl", chats(), label=[i % 2 for i in range(60)])
    told = ("--label", "label", "-o", "mine", "--messages-column", "messages")
    result = tiny("train", path, *told, "--pool", "max")
    assert result.code == 1
    assert "--pool trains on texts, not on conversations" in result.stderr


@pytest.mark.parametrize("command", ["extract", "predict"])
def test_a_template_that_cannot_be_parsed_ends_a_run_before_its_first_row(
    tiny: Cli, command: str
) -> None:
    rows = chats(4)
    path = write("jsonl", rows)
    Path("bad.jinja").write_text("{% for m in messages %}\n{{ m['content'] | nope }}{% endfor %}")
    first = ["extract"]
    if command == "predict":
        labels = Labels("binary", ("a", "b"), np.arange(60) % 2)
        table = extractor().extract(chats())
        save_classifier(train(table, labels, name="mine"), "mine")
        first = ["predict", "mine"]
    told = ("--messages-column", "messages", "--on-error", "skip", "--chat-template", "bad.jinja")
    result = tiny(*first, path, "-o", "out.jsonl", *told)
    assert result.code == 1
    assert (
        "the chat template refuses all conversations: line 2: No filter named 'nope'."
        in result.stderr
    )
    assert not Path("out.jsonl.rejects.jsonl").exists()


def test_a_model_without_a_template_ends_a_run_before_its_first_row(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "load_extractor", lambda **_: SplineExtractor(backbone()))
    path = write("jsonl", chats(4))
    told = ("--messages-column", "messages", "--on-error", "skip")
    result = cli("extract", path, "-o", "out.jsonl", *told)
    assert result.code == 1
    assert "the model has no chat template (give one: chat_template, or" in result.stderr
    assert not Path("out.jsonl.rejects.jsonl").exists()


def test_a_classifier_of_answers_refuses_texts_before_it_reads_any(tiny: Cli) -> None:
    rows = chats()
    labels = Labels("binary", ("clean", "toxic"), np.arange(len(rows)) % 2)
    table = extractor(count="last").extract(rows)
    save_classifier(train(table, labels, name="mine"), "mine")
    Path("texts.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n')
    result = tiny("predict", "mine", "texts.jsonl", "-o", "out.jsonl", "--on-error", "skip")
    assert result.code == 2
    assert "--count last): name their column with --messages-column" in " ".join(
        result.stderr.replace("\u2502", " ").split()
    )
    result = tiny("predict", "mine", "texts.jsonl", "-o", "out.jsonl", "--count", "user")
    assert result.code == 2
    assert "'mine' was trained on --count last, not on user (leave --count out" in " ".join(
        result.stderr.replace("\u2502", " ").split()
    )
    # Features of conversations are none of texts.
    table.to_parquet("features.parquet")
    assert tiny("predict", "mine", "features.parquet", "-o", "out.jsonl", "-q").code == 0
