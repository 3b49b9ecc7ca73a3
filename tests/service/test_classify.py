"""/v1/classify: one verdict per input, however long it is."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.models import ModelCatalog
from service.reading import split_windows
from service.settings import Settings
from service.verdicts import passes
from tests.service.fakes import CLASSIFIER_TOKENS, DOMAINS, TOXIC_WORDS, backbone_of, fake_catalog


def ask(client: TestClient, **body: Any) -> list[dict[str, Any]]:
    answer = client.post("/v1/classify", json=body)
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()["data"]
    return rows


def test_binary(client: TestClient) -> None:
    rows = ask(client, input=["a toxic text", "a text"], classifier="toxicity")
    assert [row["label"] for row in rows] == ["toxic", "clean"]
    assert [row["labels"] for row in rows] == [["toxic"], ["clean"]]
    for row in rows:
        assert set(row["probabilities"]) == {"clean", "toxic"}
        assert sum(row["probabilities"].values()) == pytest.approx(1)


def test_several_labels_may_hold(client: TestClient) -> None:
    row, calm = ask(client, input=["a threat and an insult", "calm"], classifier="toxicity-types")
    assert (row["label"], row["labels"]) == (None, ["threat", "insult"])
    assert list(row["probabilities"]) == list(TOXIC_WORDS.values())
    assert (calm["label"], calm["labels"]) == (None, [])


def test_multiclass(client: TestClient) -> None:
    (row,) = ask(client, input="plain law text about law", classifier="domain")
    assert row["label"] == max(row["probabilities"], key=row["probabilities"].__getitem__)
    assert list(row["probabilities"]) == list(DOMAINS)
    assert sum(row["probabilities"].values()) == pytest.approx(1)


def test_exclusive_classes_have_no_thresholds(client: TestClient) -> None:
    """The most probable is chosen: a threshold that is told would be taken for one that decides."""
    for asked, thresholds in [
        ("domain", {}),
        (["toxicity", "domain"], {"toxicity": {"toxic": 0.5}, "domain": {}}),
    ]:
        answer = client.post("/v1/classify", json={"input": "law", "classifier": asked}).json()
        assert answer["thresholds"] == thresholds
    assert client.get("/v1/classifiers/domain").json()["thresholds"] == {}


def test_the_default_is_the_first(client: TestClient) -> None:
    answer = client.post("/v1/classify", json={"input": "x"}).json()
    assert (answer["classifier"], answer["model"]) == ("toxicity", "fake")
    assert answer["thresholds"] == {"toxic": 0.5}


def test_an_unknown_classifier_is_404(client: TestClient) -> None:
    answer = client.post("/v1/classify", json={"input": "x", "classifier": "../toxicity"})
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "classifier_not_found"


@pytest.mark.parametrize("position", [0, 255, 256, 300, 511, 700, 999])
def test_nothing_hides_behind_the_classifiers_limit(client: TestClient, position: int) -> None:
    words = ["w"] * 1000
    words[position] = "toxic"
    row, clean = ask(client, input=[" ".join(words), " ".join(["w"] * 1000)])
    assert (row["label"], clean["label"]) == ("toxic", "clean")
    assert (row["n_tokens"], row["truncated"]) == (1000, False)
    assert row["windows"] == len(split_windows(list(range(1000)), CLASSIFIER_TOKENS)) > 1


def test_windows_are_combined_as_the_kind_of_task_wants(
    client: TestClient, catalog: ModelCatalog
) -> None:
    """Each label's highest probability; of exclusive classes the mean, weighted by tokens."""
    words = [f"w{i}" for i in range(500)]
    words[3], words[480] = "threat", "insult"
    windows = split_windows(words, CLASSIFIER_TOKENS)  # type: ignore[type-var, arg-type]
    for name in ("toxicity-types", "domain"):
        parts = ask(client, input=[" ".join(map(str, w)) for w in windows], classifier=name)
        (whole,) = ask(client, input=" ".join(words), classifier=name)
        of_parts = np.array([list(part["probabilities"].values()) for part in parts])
        lengths = [part["n_tokens"] for part in parts]
        wanted = (
            of_parts.max(0)
            if name == "toxicity-types"
            else np.average(of_parts, axis=0, weights=lengths)
        )
        np.testing.assert_allclose(list(whole["probabilities"].values()), wanted)


def test_beyond_the_limit_the_request_decides(client: TestClient) -> None:
    text = " ".join(["w"] * 1400 + ["toxic"])
    refused = client.post("/v1/classify", json={"input": ["x", text]})
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "input_too_long"
    assert refused.json()["error"]["param"] == "input[1]"
    (cut,) = ask(client, input=text, overflow="truncate")
    assert (cut["label"], cut["n_tokens"], cut["truncated"]) == ("clean", 1024, True)
    (whole,) = ask(client, input=text, overflow="window")
    assert (whole["label"], whole["n_tokens"], whole["truncated"]) == ("toxic", 1401, False)


@pytest.mark.parametrize(
    ("n_tokens", "size"), [(1, 8), (8, 8), (9, 8), (15, 8), (100, 8), (7, 1), (1000, 256)]
)
def test_windows_cover_everything_overlap_and_are_full(n_tokens: int, size: int) -> None:
    ids = list(range(n_tokens))
    windows = split_windows(ids, size)
    assert sorted({token for window in windows for token in window}) == ids
    assert all(len(window) == min(size, n_tokens) for window in windows)
    for before, after in pairwise(windows):
        assert len(set(before) & set(after)) >= size // 4
        assert before < after


def test_every_window_starts_as_a_text_does() -> None:
    windows = split_windows([7, *range(100, 120)], 8, (7,))
    assert all(window[0] == 7 and len(window) == 8 for window in windows)
    assert {token for window in windows for token in window} == {7, *range(100, 120)}


@pytest.mark.parametrize("n_tokens", [8, 9, 14, 100])
def test_every_window_ends_as_a_text_does(n_tokens: int) -> None:
    ids = [101, *range(200, 198 + n_tokens), 102]
    windows = split_windows(ids, 8, (101,), (102,))
    assert all(window[0] == 101 and window[-1] == 102 and len(window) == 8 for window in windows)
    assert {token for window in windows for token in window} == set(ids)
    assert split_windows([*ids[:-1], 9], 8, (101,), (102,))[-1][-1] == 9  # it did not end so


class TestPasses:
    @pytest.fixture
    def other(self) -> Iterator[ModelCatalog]:
        catalog = fake_catalog(classifier_tokens=128)
        yield catalog
        assert catalog.stop(30)

    def test_one_forward_pass_serves_all_of_a_model(self, catalog: ModelCatalog) -> None:
        (one,) = passes(list(catalog.classifiers.values()))
        assert [classifier.name for classifier in one.classifiers] == list(catalog.classifiers)
        assert one.plan.layers == (0, 1, 2, 3)

    def test_what_differs_stays_apart(self, catalog: ModelCatalog, other: ModelCatalog) -> None:
        mine, theirs = catalog.get_classifier("toxicity"), other.get_classifier("toxicity")
        assert [one.plan.max_tokens for one in passes([mine, theirs])] == [256, 128]

    def test_several_inputs_are_one_submission(
        self, client: TestClient, catalog: ModelCatalog
    ) -> None:
        seen = backbone_of(catalog.default).seen
        before = len(seen)
        ask(client, input=["one", "two", "three"])
        assert len(seen) == before + 1


@pytest.fixture
def mixed() -> Iterator[ModelCatalog]:
    """The same model and classifiers, but `toxicity` reads normalised texts."""
    catalog = fake_catalog()
    catalog.classifiers["toxicity"].card.settings["normalisation"] = "1"
    yield catalog
    assert catalog.stop(30)


def test_classifiers_of_one_request_read_each_its_own_text(mixed: ModelCatalog) -> None:
    one, types = mixed.classifiers["toxicity"], mixed.classifiers["toxicity-types"]
    assert [part.classifiers for part in passes([one, types])] == [(one,), (types,)]
    app = create_app(Settings(), load=lambda _settings, _listener: mixed)
    with TestClient(app) as client:
        while client.get("/readyz").status_code != 200:
            pass
        body = {"input": ["a t\u200boxic text", "a toxic t e x t", "calm"]}
        (result, plain, calm) = client.post("/v1/moderations", json=body).json()["results"]
        assert [r["categories"]["toxic"] for r in (result, plain, calm)] == [True, True, False]
        hidden, seen, _ = ask(client, **body, classifier="toxicity-types")
        assert (hidden["labels"], seen["labels"]) == ([], ["toxic"])
        assert [row["n_tokens"] for row in ask(client, **body)] == [3, 3, 1]
        card = client.get("/v1/classifiers/toxicity").json()
        assert card["settings"]["normalisation"] == "1"
        comment = {
            "comment": {"text": "Calm words. A t\u200box\u00adic one! One t o x i c one."},
            "requestedAttributes": {"TOXICITY": {}},
            "spanAnnotations": True,
        }
        answer = client.post("/v1alpha1/comments:analyze", json=comment).json()
        spans = answer["attributeScores"]["TOXICITY"]["spanScores"]
        assert [(span["begin"], span["end"]) for span in spans] == [(0, 11), (12, 26), (27, 45)]
        assert [span["score"]["value"] >= 0.5 for span in spans] == [False, True, True]
