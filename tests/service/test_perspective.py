"""comments:analyze in the Perspective API's format, errors in Google's."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.models import ModelCatalog
from service.sentences import sentence_spans
from service.settings import load_settings
from tests.service.fakes import TOXIC_WORDS

URL = "/v1alpha1/comments:analyze"
WORD_OF_ATTRIBUTE = dict(
    zip(
        ("TOXICITY", "SEVERE_TOXICITY", "PROFANITY", "THREAT", "INSULT", "IDENTITY_ATTACK"),
        TOXIC_WORDS,
        strict=True,
    )
)


def ask(client: TestClient, text: str, *attributes: str, **fields: Any) -> dict[str, Any]:
    body = {
        "comment": {"text": text},
        "requestedAttributes": {name: {} for name in attributes or ("TOXICITY",)},
        "languages": ["en"],
    }
    answer = client.post(URL, json=body | fields)
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


@pytest.mark.parametrize(("attribute", "word"), WORD_OF_ATTRIBUTE.items())
def test_every_attribute_hears_its_own_word(client: TestClient, attribute: str, word: str) -> None:
    answer = ask(client, f"you {word} you", *WORD_OF_ATTRIBUTE)
    values = {
        name: found["summaryScore"]["value"] for name, found in answer["attributeScores"].items()
    }
    assert set(values) == set(WORD_OF_ATTRIBUTE)
    assert [name for name, value in values.items() if value >= 0.5] == [attribute]


def test_toxicity_is_that_of_its_own_classifier(client: TestClient) -> None:
    row = client.post("/v1/classify", json={"input": "hm", "classifier": "toxicity"}).json()
    score = ask(client, "hm")["attributeScores"]["TOXICITY"]["summaryScore"]
    wanted = row["data"][0]["probabilities"]["toxic"]
    assert score == {"value": wanted, "type": "PROBABILITY"}


def test_without_annotations_the_span_is_the_text(client: TestClient) -> None:
    answer = ask(client, "One. Two.", clientToken="my token")
    (span,) = answer["attributeScores"]["TOXICITY"]["spanScores"]
    assert (span["begin"], span["end"]) == (0, 9)
    assert span["score"] == answer["attributeScores"]["TOXICITY"]["summaryScore"]
    assert answer["languages"] == ["en"]
    assert answer["clientToken"] == "my token"


def test_every_sentence_has_the_score_that_it_has_alone(client: TestClient) -> None:
    text = "So calm 😀. An insult here!  And calm again"
    found = ask(client, text, "INSULT", spanAnnotations=True)["attributeScores"]["INSULT"]
    spans = [(span["begin"], span["end"]) for span in found["spanScores"]]
    sentences = ["So calm 😀.", "An insult here!", "And calm again"]
    assert [text[begin:end] for begin, end in spans] == sentences
    for sentence, span in zip(sentences, found["spanScores"], strict=True):
        alone = ask(client, sentence, "INSULT")["attributeScores"]["INSULT"]["summaryScore"]
        assert span["score"] == alone
    whole = ask(client, text, "INSULT")["attributeScores"]["INSULT"]["summaryScore"]
    assert found["summaryScore"] == whole


def test_scores_below_their_threshold_are_left_out(client: TestClient) -> None:
    attributes = {"INSULT": {"scoreThreshold": 0.5}, "THREAT": {"scoreThreshold": 0.5}}
    answer = ask(client, "an insult it is", requestedAttributes=attributes)
    assert list(answer["attributeScores"]) == ["INSULT"]


def test_the_key_may_be_in_the_query(client: TestClient) -> None:
    body = {"comment": {"text": "x"}, "requestedAttributes": {"TOXICITY": {}}}
    assert client.post(f"{URL}?key=abc&alt=json", json=body).status_code == 200


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"comment": {"text": ""}}, "comment.text"),
        ({"comment": {"text": "\ud800"}}, "comment.text"),
        ({"comment": {}}, "comment.text"),
        ({"comment": "x"}, "comment"),
        ({"comment": {"text": "x", "type": "MARKDOWN"}}, "comment.type"),
        ({"comment": {"text": "<p> </p>", "type": "HTML"}}, "comment.text"),
        ({"comment": {"text": "w" * 65_537}}, "comment.text"),
        ({"requestedAttributes": {}}, "requestedAttributes"),
        (
            {"requestedAttributes": {"THREAT": {"scoreThreshold": 2}}},
            "requestedAttributes.THREAT.scoreThreshold",
        ),
        ({"requestedAttributes": {"THREAT": 1}}, "requestedAttributes.THREAT"),
        # A key that is no single word is text.
        ({"requestedAttributes": {"you fool": 1}}, "requestedAttributes"),
        ({"languages": ["en", 1]}, "languages[1]"),
        ({"languages": "de"}, "languages"),
        ({"spanAnnotations": "yes"}, "spanAnnotations"),
    ],
)
def test_errors_are_in_googles_shape(
    client: TestClient, change: dict[str, Any], field: str
) -> None:
    body = {"comment": {"text": "x"}, "requestedAttributes": {"TOXICITY": {}}} | change
    # Escaped as a client would that has such a text: UTF-8 has no lone surrogates.
    content = json.dumps(body)
    answer = client.post(URL, content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "status", "details"}
    assert (error["code"], error["status"]) == (400, "INVALID_ARGUMENT")
    assert error["details"][0]["field"] == field


UNKNOWN = [
    ({"requestedAttributes": {"TOXICITY": {}, "SEXUALLY_EXPLICIT": {}}}, ["TOXICITY"], []),
    ({"requestedAttributes": {"SMELL": {}}}, [], []),
    ({"languages": ["de"]}, [], []),
    ({"languages": ["enm", "<script>"]}, [], []),
    ({}, ["TOXICITY"], []),
    ({"languages": ["de", "en-GB"]}, ["TOXICITY"], ["en"]),
]


@pytest.mark.parametrize(("change", "scored", "languages"), UNKNOWN)
def test_what_is_not_scored_is_left_out(
    client: TestClient, change: dict[str, Any], scored: list[str], languages: list[str]
) -> None:
    body = {"comment": {"text": "x"}, "requestedAttributes": {"TOXICITY": {}}, "clientToken": "t"}
    answer = client.post(URL, json=body | change)
    assert answer.status_code == 200
    assert list(answer.json()["attributeScores"]) == scored
    assert (answer.json()["languages"], answer.json()["clientToken"]) == (languages, "t")
    unscored = {"de": ["de"], "enm": ["enm"]}.get((change.get("languages") or ["en"])[0])
    assert answer.json().get("unscoredLanguages") == unscored
    left = [name for name in change.get("requestedAttributes", ()) if name not in scored]
    assert answer.json().get("unscoredAttributes") == (left or None)


def test_unscored_attributes_are_named_as_far_as_they_can_be_shown(client: TestClient) -> None:
    names = ["toxicity", "\ud800\n", "x" * 65]
    body = {"comment": {"text": "x"}, "requestedAttributes": {name: {} for name in names}}
    headers = {"content-type": "application/json"}
    found = client.post(URL, content=json.dumps(body), headers=headers).json()
    assert found["unscoredAttributes"] == ["toxicity", "??", "x" * 61 + "..."]
    assert found["attributeScores"] == {}


@pytest.mark.parametrize(
    ("change", "field"),
    [(UNKNOWN[0][0], "requestedAttributes"), (UNKNOWN[2][0], "languages")],
)
def test_what_is_not_scored_can_be_refused(
    catalog: ModelCatalog, change: dict[str, Any], field: str
) -> None:
    app = create_app(load_settings(perspective_unknown="error"), load=lambda *_: catalog)
    body = {"comment": {"text": "x"}, "requestedAttributes": {"TOXICITY": {}}}
    with TestClient(app, raise_server_exceptions=False) as client:
        while client.get("/readyz").status_code != 200:
            assert app.state.lifecycle.failure is None
        answer = client.post(URL, json=body | change)
    assert answer.status_code == 400
    assert answer.json()["error"]["details"][0]["field"] == field


def without(catalog: ModelCatalog, *names: str, left_out: bool = False) -> ModelCatalog:
    served = [one for one in catalog.classifiers.values() if one.name not in names]
    why = dict.fromkeys(names, "its model 'minilm-l6' is not cached") if left_out else None
    return ModelCatalog([catalog.default], served, (), why)


@pytest.mark.parametrize("unknown", ["omit", "error"])
@pytest.mark.parametrize("left_out", [False, True])
@pytest.mark.parametrize("attribute", WORD_OF_ATTRIBUTE)
def test_who_would_score_an_attribute_is_told_and_why_nobody_does(
    catalog: ModelCatalog, unknown: str, left_out: bool, attribute: str
) -> None:
    there = without(catalog, "toxicity", "toxicity-types", left_out=left_out)
    app = create_app(load_settings(perspective_unknown=unknown), load=lambda *_: there)
    body = {"comment": {"text": "x"}, "requestedAttributes": {attribute: {}}}
    with TestClient(app, raise_server_exceptions=False) as client:
        while client.get("/readyz").status_code != 200:
            assert app.state.lifecycle.failure is None
        answer = client.post(URL, json=body)
        error = answer.json()["error"]
        assert (answer.status_code, error["details"][0]["reason"]) == (404, "classifier_not_found")
        assert error["details"][0]["field"] == "requestedAttributes"
        name = "toxicity" if attribute == "TOXICITY" else "toxicity-types"
        assert f"{attribute} is scored by '{name}', which" in error["message"]
        why = "left out at the start: its model 'minilm-l6' is not cached"
        assert (why if left_out else "is not served") in error["message"]
        assert f"perspective_attributes {attribute}=NAME:CLASS)" in error["message"]
        # So is who asks for it by its name.
        answer = client.post("/v1/classify", json={"input": "x", "classifier": name})
        assert (why in answer.json()["error"]["message"]) is left_out
        if left_out:  # no other takes its place where nobody is named
            answer = client.post("/v1/classify", json={"input": "x"})
            assert (answer.status_code, answer.json()["error"]["code"]) == (
                404,
                "classifier_not_found",
            )
            message = answer.json()["error"]["message"]
            assert message == f"'toxicity', the default, was {why} (served: domain)"
        answer = client.post("/v1/moderations", json={"input": "x"})
        assert answer.status_code == 404
        message = answer.json()["error"]["message"]
        assert message.startswith("moderations ask 'toxicity', which ")
        assert (why in message) is left_out
        assert message.endswith("toxicity=FOLDER)")


def test_toxicity_is_nobody_elses(catalog: ModelCatalog) -> None:
    """Another classifier has a class of that name: it is not what clients ask for."""
    app = create_app(load_settings(), load=lambda *_: without(catalog, "toxicity"))
    with TestClient(app, raise_server_exceptions=False) as client:
        while client.get("/readyz").status_code != 200:
            assert app.state.lifecycle.failure is None
        found = ask(client, "x", "TOXICITY", "INSULT")
        assert list(found["attributeScores"]) == ["INSULT"]
        assert found["unscoredAttributes"] == ["TOXICITY"]


def test_spans_of_html_are_those_of_the_html(client: TestClient) -> None:
    html = "<p>So calm &amp; quiet.</p><script>an insult</script><p>An <b>insult</b> here!</p>"
    body = {
        "comment": {"text": html, "type": "HTML"},
        "requestedAttributes": {"INSULT": {}},
        "spanAnnotations": True,
    }
    found = client.post(URL, json=body).json()["attributeScores"]["INSULT"]
    spans = [html[span["begin"] : span["end"]] for span in found["spanScores"]]
    assert spans == ["So calm &amp; quiet.", "An <b>insult</b> here!"]
    alone = ask(client, "An insult here!", "INSULT")["attributeScores"]["INSULT"]["summaryScore"]
    assert found["spanScores"][1]["score"] == alone
    plain = {**body, "comment": {"text": html}}
    other = client.post(URL, json=plain).json()["attributeScores"]["INSULT"]
    assert other["summaryScore"] != found["summaryScore"]


LARGEST_BYTES = 20_480
"""Of a comment, in the Perspective API."""


@pytest.mark.parametrize("word_at", ["beginning", "middle", "end"])
def test_the_longest_comments_are_read_to_their_end(client: TestClient, word_at: str) -> None:
    before = {"beginning": 0, "middle": 2000, "end": 4095}[word_at]
    text = "fine " * before + "toxic" + " fine" * (4095 - before)
    assert len(text) == LARGEST_BYTES
    found = ask(client, text)["attributeScores"]["TOXICITY"]
    assert found["summaryScore"]["value"] > 0.5
    assert (found["spanScores"][0]["begin"], found["spanScores"][0]["end"]) == (0, len(text))
    harmless = ask(client, text.replace("toxic", "other"))["attributeScores"]["TOXICITY"]
    assert harmless["summaryScore"]["value"] < 0.5


@pytest.mark.parametrize("letter", ["a", "é", "字", "😀"])
def test_the_longest_comments_of_all_kinds(client: TestClient, letter: str) -> None:
    """Without a space, and with sentences to be scored by themselves."""
    text = letter * (LARGEST_BYTES // len(letter.encode()))
    assert "TOXICITY" in ask(client, text)["attributeScores"]
    text = (letter * 100 + ". ") * (LARGEST_BYTES // (100 * len(letter.encode()) + 2))
    spans = ask(client, text, spanAnnotations=True)["attributeScores"]["TOXICITY"]["spanScores"]
    assert spans[-1]["end"] == len(text.rstrip())


def test_a_service_that_cuts_cuts_comments_too(catalog: ModelCatalog) -> None:
    app = create_app(load_settings(overflow="truncate"), load=lambda *_: catalog)
    with TestClient(app, raise_server_exceptions=False) as client:
        while client.get("/readyz").status_code != 200:
            assert app.state.lifecycle.failure is None
        for n_before, is_read in ((10, True), (2000, False)):
            found = ask(client, "fine " * n_before + "toxic")["attributeScores"]["TOXICITY"]
            assert (found["summaryScore"]["value"] > 0.5) is is_read


class TestSentences:
    @pytest.mark.parametrize(
        ("text", "sentences"),
        [
            ("One two", ["One two"]),
            ("One. Two?! Three", ["One.", "Two?!", "Three"]),
            ("Version 3.11 is out. Good.", ["Version 3.11 is out.", "Good."]),
            ('He said "Go away." Then he left.', ['He said "Go away."', "Then he left."]),
            ("one line\n\n  another line\n", ["one line", "another line"]),
            ("第一句。第二句。", ["第一句。", "第二句。"]),
            ("...", ["..."]),
            ("  \n ", []),
        ],
    )
    def test_found(self, text: str, sentences: list[str]) -> None:
        assert [text[begin:end] for begin, end in sentence_spans(text, 100)] == sentences

    def test_too_many_are_joined_and_none_is_lost(self) -> None:
        text = "Ah. " * 1000
        spans = sentence_spans(text, 7)
        assert len(spans) <= 7
        assert "".join(text[begin:end] for begin, end in spans).count("Ah.") == 1000
