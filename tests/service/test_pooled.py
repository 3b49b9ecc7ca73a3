"""Pooled classifiers over HTTP: the numbers of `predict`, spans, cascades, several models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.cascades import cascade_of
from service.engine import EngineLimits, SilentListener
from service.models import ModelCatalog, ServedModel, attach
from service.scoring import ScoringPlan
from service.settings import Settings, load_settings
from service.verdicts import passes
from splinellm import SplineExtractor
from splinellm.backbone.loading import Backbone
from splinellm.errors import ArtifactError, ConfigurationError, PromptError
from splinellm.extraction.tokens import TokenizedPrompt
from splinellm.learn.classifier import Classifier
from splinellm.learn.labels import Labels
from splinellm.learn.lengths import BY_LENGTH, TRIED_UP_TO
from splinellm.learn.pooled import Pooled
from splinellm.learn.pooled_training import PooledSettings, train_pooled
from splinellm.learn.pooling import Pooling
from splinellm.learn.training import train
from splinellm.normalisation import normalise
from tests.architectures import case_backbone
from tests.learn.counting import count_reads
from tests.planted import planted_texts
from tests.tiny import tiny_backbone

POOLING = Pooling(window=8, stride=4)


TEXTS = planted_texts(60)
LABELS = Labels("binary", ("clean", "toxic"), np.arange(60) % 2)
LONG = " ".join(TEXTS[:40])
HIDDEN = TEXTS[3].replace("idiot", "i d\u200b i o t").replace("alpha", "&#97;lpha")

# What was trained on short texts is asked about long ones.
pytestmark = pytest.mark.filterwarnings("ignore::splinellm.learn.lengths.LengthWarning")


@cache
def backbone(kind: str) -> Backbone:
    return tiny_backbone(kind) if kind == "llama" else case_backbone(kind)


@cache
def extractor(kind: str = "llama", n_tokens: int = 48) -> SplineExtractor:
    return SplineExtractor(backbone(kind), features="blocks:8", max_tokens=n_tokens)


@cache
def pooled(name: str, kind: str = "llama", **options: Any) -> Pooled:
    settings = PooledSettings(POOLING, hybrid=options.pop("hybrid", False), n_components=None)
    return train_pooled(
        TEXTS,
        LABELS,
        extractor(kind),
        name=name,
        settings=settings,
        abstain=options.pop("abstain", 0.3),
        **options,
    )


@cache
def whole(name: str = "whole") -> Classifier:
    """A classifier that reads a text as a whole."""
    return train(extractor(n_tokens=96).extract(TEXTS), LABELS, name=name, abstain=0.4)


def classifiers() -> list[Classifier]:
    return [
        pooled("toxicity", normalisation="1", hybrid=True),
        pooled("plain"),
        pooled("encoder", "bert"),
        whole(),
    ]


@pytest.fixture
def catalog() -> Iterator[ModelCatalog]:
    """Two models, pooled classifiers of both, one that is none, and cascades."""
    models = [
        ServedModel(
            kind,
            backbone(kind),
            limits=EngineLimits(batch_wait_s=0),
            listener=SilentListener(),
            max_tokens=512,
        )
        for kind in ("llama", "bert")
    ]
    served = [attach(one, models) for one in classifiers()]
    by_name = {one.name: one for one in served}
    cascades = [
        cascade_of(("whole", "plain"), by_name.__getitem__),
        cascade_of(("encoder", "plain", "person"), by_name.__getitem__),
    ]
    catalog = ModelCatalog(models, served, cascades)
    for model in models:
        model.engine.start()
    yield catalog
    assert catalog.stop(30)


@pytest.fixture
def client(catalog: ModelCatalog) -> Iterator[TestClient]:
    app = create_app(Settings(max_input_tokens=2048), load=lambda *_: catalog)
    with TestClient(app, raise_server_exceptions=False) as client:
        while client.get("/readyz").status_code != 200:
            assert app.state.lifecycle.failure is None
        yield client


def ask(client: TestClient, **body: Any) -> list[dict[str, Any]]:
    answer = client.post("/v1/classify", json=body)
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()["data"]
    return rows


@pytest.mark.parametrize("name", ["toxicity", "plain"])
def test_verdicts_and_spans_are_those_of_predict(client: TestClient, name: str) -> None:
    classifier = next(one for one in classifiers() if one.card.name == name)
    assert isinstance(classifier, Pooled)
    given = [*TEXTS[:9], LONG, HIDDEN, "a"]
    rows = ask(client, input=given, classifier=name, spans=True)
    wanted = classifier.predict_texts(given, extractor())
    spans = classifier.spans(given, extractor())
    for row, probabilities, places in zip(rows, wanted.probabilities, spans, strict=True):
        np.testing.assert_allclose([*row["probabilities"].values()], probabilities, atol=1e-9)
        assert [(s["begin"], s["end"], s["label"]) for s in row["spans"]] == [
            (s.begin, s.end, s.label) for s in places
        ]
    assert [row["label"] for row in rows] == wanted.predicted
    judged = list(classifier.judge(given, extractor()))
    assert [row["n_tokens"] for row in rows] == [len(one.of_tokens) for one in judged]  # type: ignore[union-attr]
    assert any(row["spans"] for row in rows)
    by_text = dict(zip(given, rows, strict=True))
    assert by_text[LONG]["windows"] > 3
    assert not by_text[LONG]["truncated"]
    assert "spans" not in ask(client, input="a", classifier=name)[0]


def test_spans_are_places_in_the_text_as_it_was_given(client: TestClient) -> None:
    (row,) = ask(client, input=HIDDEN, classifier="toxicity", spans=True)
    assert normalise(HIDDEN).text == normalise(TEXTS[3]).text
    (plain,) = ask(client, input=TEXTS[3], classifier="toxicity", spans=True)
    assert row["probabilities"] == plain["probabilities"]
    assert len(row["spans"]) == len(plain["spans"]) > 0
    for hidden, bare in zip(row["spans"], plain["spans"], strict=True):
        part = HIDDEN[hidden["begin"] : hidden["end"]]
        assert normalise(part).text == normalise(TEXTS[3][bare["begin"] : bare["end"]]).text


def test_an_encoder_beside_a_decoder(client: TestClient) -> None:
    given = [*TEXTS[:4], LONG]
    wanted = pooled("encoder", "bert").predict_texts(given, extractor("bert"))
    found = client.post("/v1/moderations", json={"input": given}).json()["results"]
    toxicity = pooled("toxicity", normalisation="1", hybrid=True)
    of_toxicity = toxicity.predict_texts(given, extractor()).probabilities[:, 1]
    scores = [one["category_scores"]["toxic"] for one in found]
    np.testing.assert_allclose(scores, of_toxicity, atol=1e-9)
    assert len(wanted) == len(given)
    models = [one["id"] for one in client.get("/v1/models").json()["data"]]
    assert models == ["llama", "bert"]
    assert client.post("/v1/features", json={"input": "x"}).json()["model"] == "llama"


def test_each_text_is_read_once(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = count_reads(monkeypatch)
    rows = ask(client, input=TEXTS[:7], classifier="plain", spans=True)
    assert len(reads) == sum(row["windows"] for row in rows) < 2 * 7


def test_classifiers_that_read_alike_share_a_pass(catalog: ModelCatalog) -> None:
    few = SplineExtractor(backbone("llama"), layers="0", features="blocks:8", max_tokens=48)
    settings = PooledSettings(POOLING, n_components=None)
    other = train_pooled(TEXTS, LABELS, few, name="other", settings=settings)
    model = catalog.get("llama")
    plain, of_other = catalog.get_classifier("plain"), attach(other, [model])
    (one,) = passes([plain, of_other])
    assert isinstance(one.plan, ScoringPlan)
    assert one.plan.layers == (0, 1, 2)
    prompt = TokenizedPrompt([5, 9, 7, 8], truncated=False)
    (scores,) = model.engine.submit(one.plan, [prompt]).result(30).rows.values()
    for served, reader in ((plain, extractor()), (of_other, few)):
        assert served.pooled is not None
        rows = reader.read({0: prompt}, granularity="token")[0]
        assert not isinstance(rows, PromptError)
        wanted = served.pooled.scorer.logits(rows)
        np.testing.assert_allclose(scores[:, one.plan.columns_of(served.pooled)], wanted, atol=1e-6)
    # One reads normalised texts: they are not the same.
    assert len(passes([plain, catalog.get_classifier("toxicity")])) == 2


def test_limits(client: TestClient) -> None:
    text = " ".join([LONG] * 8)
    refused = client.post("/v1/classify", json={"input": ["x", text], "classifier": "plain"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "input_too_long")
    assert refused.json()["error"]["param"] == "input[1]"
    (cut,) = ask(client, input=text, classifier="plain", overflow="truncate")
    assert (cut["n_tokens"], cut["truncated"]) == (2048, True)
    (read,) = ask(client, input=text, classifier="plain", overflow="window")
    assert read["n_tokens"] > 3000
    assert not read["truncated"]
    ids = client.post("/v1/classify", json={"input": [5, 6, 7], "classifier": "toxicity"})
    assert (ids.status_code, ids.json()["error"]["code"]) == (400, "invalid_prompt")
    assert "reads words" in ids.json()["error"]["message"]


def test_spans_of_what_reads_a_text_as_a_whole_are_refused(client: TestClient) -> None:
    answer = client.post("/v1/classify", json={"input": "x", "classifier": "whole", "spans": True})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("spans_unavailable", "spans")
    assert "toxicity, plain, encoder" in error["message"]
    told = {one["id"]: one["spans"] for one in client.get("/v1/classifiers").json()["data"]}
    assert told == {"toxicity": True, "plain": True, "encoder": True, "whole": False}


def test_perspectives_spans_are_the_classifiers(client: TestClient) -> None:
    body = {
        "comment": {"text": HIDDEN},
        "requestedAttributes": {"TOXICITY": {}},
        "spanAnnotations": True,
    }
    answer = client.post("/v1alpha1/comments:analyze", json=body)
    assert answer.status_code == 200, answer.text
    found = answer.json()["attributeScores"]["TOXICITY"]
    (row,) = ask(client, input=HIDDEN, classifier="toxicity", spans=True)
    assert [(s["begin"], s["end"], s["score"]["value"]) for s in found["spanScores"]] == [
        (s["begin"], s["end"], s["score"]) for s in row["spans"]
    ]
    assert found["summaryScore"]["value"] == row["probabilities"]["toxic"]
    body |= {"comment": {"text": f"<b>{TEXTS[3]}</b>", "type": "HTML"}}
    found = client.post("/v1alpha1/comments:analyze", json=body).json()["attributeScores"]
    (row,) = ask(client, input=TEXTS[3], classifier="toxicity", spans=True)
    assert [s["begin"] for s in found["TOXICITY"]["spanScores"]] == [
        s["begin"] + 3 for s in row["spans"]
    ]


def test_perspectives_span_is_the_text_where_none_are_asked_for(client: TestClient) -> None:
    body = {"comment": {"text": HIDDEN}, "requestedAttributes": {"TOXICITY": {}}}
    (row,) = ask(client, input=HIDDEN, classifier="toxicity", spans=True)
    assert row["spans"]
    for told in ({}, {"spanAnnotations": False}, {"spanAnnotations": None}):
        answer = client.post("/v1alpha1/comments:analyze", json=body | told)
        found = answer.json()["attributeScores"]["TOXICITY"]
        whole_text = {"begin": 0, "end": len(HIDDEN), "score": found["summaryScore"]}
        assert found["spanScores"] == [whole_text]


def test_a_cascade_lets_the_next_read_what_the_first_is_uncertain_of(client: TestClient) -> None:
    rows = ask(client, input=TEXTS, classifier="whole")
    first = whole().predict_texts(TEXTS, extractor(n_tokens=96))
    second = pooled("plain").predict_texts(TEXTS, extractor())
    band = whole().card.settings["abstain"]["toxic"]
    is_open = [band["low"] <= p <= band["high"] for p in first.probabilities[:, 1]]
    assert 0 < sum(is_open) < len(TEXTS)
    assert [row["decided_by"] for row in rows] == ["plain" if one else "whole" for one in is_open]
    for i, row in enumerate(rows):
        wanted = (second if is_open[i] else first).probabilities[i]
        np.testing.assert_allclose([*row["probabilities"].values()], wanted, atol=1e-6)
    metrics = client.get("/metrics").text
    name = "splinellm_decided_inputs_total"
    assert f'{name}{{classifier="whole",decided_by="plain"}} {float(sum(is_open))}' in metrics


def test_what_all_are_uncertain_of_is_left_to_a_person(client: TestClient) -> None:
    rows = ask(client, input=TEXTS, classifier="encoder", spans=True)
    band = pooled("plain").card.settings["abstain"]["toxic"]
    deciders = [row["decided_by"] for row in rows]
    assert {"encoder", "person"} <= set(deciders) <= {"encoder", "plain", "person"}
    alone = ask(client, input=TEXTS, classifier="plain")
    for row, other in zip(rows, alone, strict=True):
        if row["decided_by"] == "person":
            assert (row["label"], row["labels"]) == (None, [])
            assert row["probabilities"] == pytest.approx(other["probabilities"], abs=1e-9)
            assert band["low"] <= row["probabilities"]["toxic"] <= band["high"]
        else:
            assert row["label"] is not None
    found = client.get("/v1/classifiers/encoder").json()
    assert found["cascade"] == ["encoder", "plain", "person"]


def test_moderations_and_comments_ask_the_cascade_that_holds_toxicity(
    catalog: ModelCatalog,
) -> None:
    chain = cascade_of(("plain", "toxicity", "person"), catalog.get_classifier)
    catalog.cascades = {"plain": chain}
    app = create_app(Settings(), load=lambda *_: catalog)
    with TestClient(app, raise_server_exceptions=False) as client:
        while client.get("/readyz").status_code != 200:
            assert app.state.lifecycle.failure is None
        rows = ask(client, input=TEXTS, classifier="plain")
        found = client.post("/v1/moderations", json={"input": TEXTS}).json()["results"]
        assert [one["decided_by"] for one in found] == [row["decided_by"] for row in rows]
        people = [i for i, row in enumerate(rows) if row["decided_by"] == "person"]
        assert people
        assert all(found[i]["flagged"] for i in people)
        body = {
            "comment": {"text": TEXTS[people[0]]},
            "requestedAttributes": {"TOXICITY": {}},
        }
        answer = client.post("/v1alpha1/comments:analyze", json=body).json()
        assert answer["attributeScores"]["TOXICITY"]["decidedBy"] == "person"


def test_impossible_cascades(catalog: ModelCatalog) -> None:
    never = replace(pooled("plain").card, settings={"pooling": POOLING.settings()})
    sure = attach(Pooled(pooled("plain").estimators, never), [catalog.get("llama")])
    with pytest.raises(ArtifactError, match="'plain' is never uncertain"):
        cascade_of(("a", "b"), lambda _: sure)
    card = replace(pooled("plain").card, classes=("clean", "rude"))
    other = attach(Pooled(pooled("plain").estimators, card), [catalog.get("llama")])
    chosen = {"a": catalog.get_classifier("plain"), "b": other}
    with pytest.raises(ArtifactError, match="do not tell the same classes apart"):
        cascade_of(("a", "b"), chosen.__getitem__)


@pytest.mark.parametrize(
    ("cascade", "message"),
    [
        ("a", "is not like 'A:B'"),
        ("a:", "is not like"),
        ("a:b:a", "names a step twice"),
        ("person:a", "only be the last step"),
        ("a:b,a:c", "two cascades begin with one classifier"),
    ],
)
def test_impossible_settings(cascade: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load_settings(cascade=cascade)
    assert load_settings(cascade="a:b, c:person").cascades == [("a", "b"), ("c", "person")]


def test_texts_far_longer_than_tried_are_logged_once(
    client: TestClient, catalog: ModelCatalog, capsys: pytest.CaptureFixture[str]
) -> None:
    """By classifier, with lengths, and without the text."""
    cards = {name: one.card for name, one in catalog.classifiers.items()}
    short, long = " ".join(["canary"] * 3), " ".join(["canary"] * 150)
    names = ["plain", "whole", "encoder"]
    capsys.readouterr()
    for text in (short, long, long):
        body = {"input": [short, text], "classifier": names, "overflow": "window"}
        assert client.post("/v1/classify", json=body).status_code == 200
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert "canary" not in json.dumps(lines)
    told = [line for line in lines if line["event"] == "longer_than_tried"]
    assert sorted(line["classifier"] for line in told) == sorted(names)
    for line in told:
        assert line["level"] == "warning"
        assert line["tried_up_to"] == cards[line["classifier"]].metrics[BY_LENGTH][TRIED_UP_TO]
        assert line["n_tokens"] > 2 * line["tried_up_to"]
