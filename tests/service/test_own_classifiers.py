"""Classifiers of one's own: several in a request, thresholds, other services' categories."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.mapping import misspelt, require_mapped, unasked, unflagging
from service.models import ModelCatalog, attach
from service.routes.discovery import document
from service.settings import load_settings
from splinellm.errors import ConfigurationError
from splinellm.learn.classifier import Classifier
from tests.service.fakes import WORDS, FakeEstimator, backbone_of, fake_catalog

TEXTS = ["a toxic text about law", "a threat", "calm"]


def ask(client: TestClient, **body: Any) -> dict[str, Any]:
    answer = client.post("/v1/classify", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_several_classifiers_share_one_pass(client: TestClient, catalog: ModelCatalog) -> None:
    names = ["toxicity", "domain", "toxicity-types"]
    seen = backbone_of(catalog.default).seen
    before = len(seen)
    found = ask(client, input=TEXTS, classifier=names)
    assert len(seen) == before + 1
    assert found["classifiers"] == names
    for name in names:
        alone = ask(client, input=TEXTS, classifier=name)
        assert found["classes"][name] == alone["classes"]
        assert found["thresholds"][name] == alone["thresholds"]
        for row, wanted in zip(found["data"], alone["data"], strict=True):
            assert {"index": row["index"], **row["verdicts"][name]} == wanted
    assert list(ask(client, input="x", classifier=["domain"])["data"][0]["verdicts"]) == ["domain"]
    missing = client.post("/v1/classify", json={"input": "x", "classifier": ["toxicity", "no"]})
    assert missing.json()["error"]["code"] == "classifier_not_found"


def test_a_requests_threshold_decides(client: TestClient) -> None:
    probability = ask(client, input="a toxic text")["data"][0]["probabilities"]["toxic"]
    for threshold, label in [(probability, "toxic"), (min(1.0, probability + 1e-6), "clean")]:
        for told in (threshold, {"toxic": threshold}):
            found = ask(client, input="a toxic text", threshold=told)
            assert found["data"][0]["label"] == label
            assert found["thresholds"] == {"toxic": threshold}
    assert ask(client, input="x")["thresholds"] == {"toxic": 0.5}
    several = ask(
        client,
        input="a threat",
        classifier=["toxicity", "toxicity-types", "domain"],
        threshold={"threat": 1.0},
    )
    assert several["data"][0]["verdicts"]["toxicity-types"]["labels"] == []
    assert several["thresholds"]["toxicity"] == {"toxic": 0.5}
    assert several["thresholds"]["toxicity-types"]["threat"] == 1.0
    plain = ask(client, input="law", classifier="domain")
    assert ask(client, input="law", classifier="domain", threshold=0.9) == plain  # and says so


@pytest.mark.parametrize(
    ("classifier", "threshold", "message"),
    [
        ("toxicity", 1.5, "less than or equal to 1"),
        ("toxicity", -0.1, "greater than or equal to 0"),
        ("toxicity", {"clean": 0.5}, "these have: identity_hate, insult"),
    ],
)
def test_impossible_thresholds(
    client: TestClient, classifier: Any, threshold: Any, message: str
) -> None:
    body = {"input": "x", "classifier": classifier, "threshold": threshold}
    answer = client.post("/v1/classify", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "invalid_request")
    assert error["param"].startswith("threshold")
    assert message in error["message"]


@pytest.fixture
def mapped() -> Any:
    settings = load_settings(
        perspective_attributes="LEGAL=domain:law,TOXICITY=toxicity-types:insult",
        moderation_categories="illicit=domain:law,hate=toxicity",
        api_keys="me:secret",
    )
    catalog = fake_catalog()
    require_mapped(catalog.classifiers, settings)
    app = create_app(settings, load=lambda *_: catalog)
    with TestClient(app) as client:
        while client.get("/readyz").status_code != 200:
            assert app.state.lifecycle.failure is None
        client.headers["authorization"] = "Bearer secret"
        yield client
    assert catalog.stop(30)


def test_categories_come_from_the_classes_that_are_mapped(mapped: TestClient) -> None:
    text = "law law insult"
    law = ask(mapped, input=text, classifier="domain")["data"][0]
    types = ask(mapped, input=text, classifier="toxicity-types")["data"][0]
    toxic = ask(mapped, input=text, classifier="toxicity")["data"][0]
    answer = mapped.post(
        "/v1alpha1/comments:analyze",
        json={
            "comment": {"text": text},
            "requestedAttributes": {"LEGAL": {}, "TOXICITY": {}, "INSULT": {}},
        },
    )
    scores = {k: v["summaryScore"]["value"] for k, v in answer.json()["attributeScores"].items()}
    assert scores == pytest.approx(
        {
            "LEGAL": law["probabilities"]["law"],
            "TOXICITY": types["probabilities"]["insult"],
            "INSULT": types["probabilities"]["insult"],
        }
    )
    found = mapped.post("/v1/moderations", json={"input": text}).json()
    (result,) = found["results"]
    assert result["category_scores"]["illicit"] == pytest.approx(law["probabilities"]["law"])
    assert result["categories"]["illicit"] == (law["label"] == "law")
    assert result["category_scores"]["hate"] == pytest.approx(toxic["probabilities"]["toxic"])
    assert "illicit" not in found["unscored_categories"]
    assert "code" not in result["categories"]
    assert found["classifiers"] == ["toxicity", "toxicity-types", "domain"]


def test_a_mapped_classifier_can_be_named_in_moderations(mapped: TestClient) -> None:
    found = mapped.post("/v1/moderations", json={"input": "law law", "model": "domain"}).json()
    assert found["classifiers"] == ["domain"]
    (result,) = found["results"]
    law = ask(mapped, input="law law", classifier="domain")["data"][0]
    assert result["category_scores"]["illicit"] == pytest.approx(law["probabilities"]["law"])
    assert "code" not in result["categories"]
    assert {"hate", "harassment"} <= set(found["unscored_categories"])


EXCLUSIVE = ("clean", "insult", "threat", "spam")


def exclusive(*classes: str, name: str = "toxicity") -> ModelCatalog:
    """A service whose `name` tells classes apart that exclude each other."""
    catalog = fake_catalog()
    model = catalog.default
    binary = next(it.classifier for it in catalog.classifiers.values() if it.name == "toxicity")
    card = replace(binary.card, name=name, kind="multiclass", classes=classes, thresholds={})
    estimator = FakeEstimator(*(WORDS.index(word) for word in ("code", "insult", "threat", "law")))
    return ModelCatalog([model], [attach(Classifier([estimator], card), [model])])


@pytest.fixture
def moderate() -> Iterator[Callable[..., dict[str, Any]]]:
    with ExitStack() as stack:

        def ask_for(text: str, **settings: Any) -> dict[str, Any]:
            catalog = exclusive(*EXCLUSIVE)
            stack.callback(catalog.stop, 30)
            app = create_app(load_settings(**settings), load=lambda *_: catalog)
            client = stack.enter_context(TestClient(app))
            while client.get("/readyz").status_code != 200:
                assert app.state.lifecycle.failure is None
            (row,) = ask(client, input=text)["data"]
            found = client.post("/v1/moderations", json={"input": text}).json()
            (result,) = found["results"]
            for name in EXCLUSIVE:
                assert result["category_scores"][name] == row["probabilities"][name]
                assert result["categories"][name] == (row["label"] == name)
            return {"label": row["label"], "p": row["probabilities"], **result}

        yield ask_for


def test_of_exclusive_classes_the_most_probable_one_is_flagged(
    moderate: Callable[..., dict[str, Any]],
) -> None:
    insult = moderate("insult")
    assert (insult["label"], insult["flagged"]) == ("insult", True)
    assert insult["p"]["insult"] < 0.5  # no threshold decides
    assert insult["categories"]["harassment"]
    assert not insult["categories"]["harassment/threatening"]


def test_a_class_that_may_stand_for_nothing_found_is_flagged_if_it_is_mapped(
    moderate: Callable[..., dict[str, Any]],
) -> None:
    calm, spam = moderate("code"), moderate("law")
    assert (calm["label"], calm["flagged"]) == ("clean", False)
    assert (spam["label"], spam["flagged"]) == ("spam", False)
    told = {"moderation_categories": "illicit=toxicity:spam"}
    assert moderate("law", **told)["flagged"]
    assert not moderate("code", **told)["flagged"]


def test_exclusive_classes_of_which_none_can_be_flagged_are_told_at_the_start() -> None:
    told = load_settings(moderation_categories="illicit=toxicity:spam")
    for classes, settings, n_warnings in (
        (("ham", "spam"), load_settings(), 1),
        (("ham", "spam"), told, 0),
        (EXCLUSIVE, load_settings(), 0),
        (("ham", "sexual"), load_settings(), 0),
    ):
        catalog = exclusive(*classes)
        assert catalog.stop(30)
        warnings = unflagging(catalog.classifiers, {}, settings)
        assert len(warnings) == n_warnings
    catalog = exclusive("ham", "spam", name="mail")  # whom nobody asks
    assert catalog.stop(30)
    assert unflagging(catalog.classifiers, {}, load_settings()) == []


def test_who_is_asked_by_no_format_is_told_at_the_start(catalog: ModelCatalog) -> None:
    assert unasked(catalog.classifiers, catalog.cascades, load_settings()) == ["domain"]
    assert (
        unasked(
            catalog.classifiers,
            catalog.cascades,
            load_settings(moderation_categories="illicit=domain:law"),
        )
        == []
    )


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ("A=none:x", "no classifier 'none'"),
        ("A=domain", "needs a class"),
        ("A=domain:x", "has no class 'x'"),
    ],
)
def test_mappings_to_nothing_are_refused_at_the_start(
    catalog: ModelCatalog, told: str, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        require_mapped(catalog.classifiers, load_settings(perspective_attributes=told))


@pytest.mark.parametrize(
    ("setting", "category", "near"),
    [
        ("moderation_categories", "selfharm", "self-harm"),
        ("moderation_categories", "Self_Harm", "self-harm"),
        ("moderation_categories", "harrassment", "harassment"),
        ("moderation_categories", "sexual/minor", "sexual/minors"),
        ("moderation_categories", "identity-hate", "identity_hate"),
        ("perspective_attributes", "toxicity", "TOXICITY"),
        ("perspective_attributes", "IDENTITY_ATACK", "IDENTITY_ATTACK"),
        ("moderation_categories", "self-harm", None),
        ("moderation_categories", "insult", None),
        ("moderation_categories", "spam", None),
        ("perspective_attributes", "SEXUALLY_EXPLICIT", None),
        ("perspective_attributes", "SEVERE_TOXICITY", None),
        ("perspective_attributes", "LEGAL", None),
    ],
)
def test_what_is_nearly_a_known_category_is_warned_of(
    catalog: ModelCatalog, setting: str, category: str, near: str | None
) -> None:
    settings = load_settings(**{setting: f"{category}=domain:law"})
    found = misspelt(catalog.classifiers.values(), settings)
    expected = f"{setting}: '{category}' is a name of your own; did you mean {near}?"
    assert found == ([] if near is None else [expected])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("perspective_attributes", "TOXICITY"),
        ("moderation_categories", "hate=a:b,hate=c"),
        ("threshold", "toxicity"),
        ("threshold", "toxicity=1.5"),
    ],
)
def test_settings_that_say_nothing(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        load_settings(**{name: value})


def test_settings_are_read() -> None:
    settings = load_settings(threshold="toxicity=0.8,toxicity-types:threat=.3")
    assert settings.thresholds == [("toxicity", None, 0.8), ("toxicity-types", "threat", 0.3)]
    assert load_settings(threshold={"a": 0.5}).thresholds == [("a", None, 0.5)]
    told = load_settings(perspective_attributes="TOXICITY=my-clf:1").attributes
    assert told == [("TOXICITY", "my-clf", "1")]


def test_googles_client_is_told_what_there_is(mapped: TestClient) -> None:
    """Without a key: the client fetches the document before it sends one."""
    del mapped.headers["authorization"]
    for path in (
        "/$discovery/rest?version=v1alpha1&key=secret",
        "/discovery/v1/apis/commentanalyzer/v1alpha1/rest",
    ):
        found = mapped.get(path)
        assert found.status_code == 200
        assert found.json() == document("http://testserver/")


def test_googles_client_works(mapped: TestClient) -> None:
    reason = "google-api-python-client is not installed"
    discovery = pytest.importorskip("googleapiclient.discovery", reason=reason)
    httplib2 = pytest.importorskip("httplib2", reason=reason)
    del mapped.headers["authorization"]

    class Http:
        """Carries the client's requests to the service in this process."""

        def request(
            self,
            uri: str,
            method: str = "GET",
            body: Any = None,
            headers: Any = None,
            **_: Any,
        ) -> Any:
            answer = mapped.request(method, uri, content=body, headers=headers)
            told = {**answer.headers, "status": str(answer.status_code)}
            return httplib2.Response(told), answer.content

        def close(self) -> None:
            """Nothing is open."""

    service = discovery.build(
        "commentanalyzer",
        "v1alpha1",
        http=Http(),
        discoveryServiceUrl="http://testserver/$discovery/rest?version=v1alpha1",
        developerKey="secret",
        static_discovery=False,
    )
    body = {"comment": {"text": "a threat"}, "requestedAttributes": {"THREAT": {}}}
    found = service.comments().analyze(body=body).execute()
    assert found["attributeScores"]["THREAT"]["summaryScore"]["value"] > 0.5
    assert json.dumps(found)
