"""From a text to what is shown of it, in a browser."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from splinellm.token_index import colour_range
from tests.browser import Browser
from tests.service.fakes import N_LAYERS
from tests.service.page.conftest import read

TEXT = "a toxic insult of code"


def posted(browser: Browser, path: str) -> list[Any]:
    return [
        json.loads(one["postData"])
        for one in browser.requests()
        if one["method"] == "POST" and one["url"].endswith(path)
    ]


def test_one_request_judges_by_all_classifiers(
    browser: Browser, url: str, client: TestClient
) -> None:
    browser.open(url)
    read(browser, TEXT)
    names = [one["id"] for one in client.get("/v1/classifiers").json()["data"]]
    (asked,) = posted(browser, "/v1/classify")
    assert asked == {"input": TEXT, "classifier": names, "spans": "available"}
    answer = client.post("/v1/classify", json=asked).json()["data"][0]["verdicts"]
    assert browser.texts(".verdict h3") == names
    for name in names:
        card = f".verdict[data-classifier={name}]"
        assert browser.texts(f"{card} .badge") == (answer[name]["labels"] or ["none"])
    shown = browser.texts(".verdict[data-classifier=toxicity] .number")
    toxic = answer["toxicity"]["probabilities"]["toxic"]
    assert shown[0].startswith(f"{100 * toxic:.1f} %")
    assert "threshold 50.0 %" in shown[0]


def test_tokens_are_coloured_by_layer_and_feature(
    browser: Browser, url: str, client: TestClient
) -> None:
    browser.open(url)
    read(browser, TEXT)
    found = client.post("/v1/inspect", json={"input": TEXT, "classifiers": []}).json()
    assert browser.texts(".tokens [role=option]") == [one["token"] for one in found["tokens"]]
    script = (
        "return [...document.querySelectorAll('.tokens [role=option]')]"
        ".map((one) => Number(one.style.getPropertyValue('--share')))"
    )
    for name, layer in (("sign_fraction", 0), ("hyperplane_distance", N_LAYERS - 1)):
        browser.fill("#feature", name)
        browser.fill("#layer", str(layer))
        f = found["token_feature_names"].index(name)
        values = [one["values"][layer][f] for one in found["tokens"]]
        low, high = colour_range(np.array(values))
        wanted = [min(1.0, max(0.0, (value - low) / (high - low))) for value in values]
        assert all(abs(a - b) < 1e-3 for a, b in zip(browser.run(script), wanted, strict=True))
        assert browser.text("#layer-shown").startswith(f"{layer} of 0 to {N_LAYERS - 1}")


def test_a_first_token_far_from_all_is_beyond_the_scale(browser: Browser, url: str) -> None:
    browser.open(url)
    read(browser, TEXT)
    for first, ends, note in (
        (9.0, ["1", "4"], "the first token is beyond the scale"),
        (-9.0, ["1", "4"], "the first token is beyond the scale"),
        (5.0, ["1", "5"], ""),
    ):
        numbers = [first, 1.0, 2.0, 3.0, 4.0]
        script = f"""
            const base = new URL(document.querySelector("script[type=module]").src);
            return import(new URL("tokens.js", base)).then((tokens) => {{
              const values = {numbers}.map(
                (one) => ({{ token: "a", begin: null, values: [[one]] }}));
              const answer = {{ token_feature_names: ["x"], layers: [0], tokens: values }};
              tokens.showTokens([{{ ...answer, n_tokens: 5 }}], ["a"], [""]);
              return true;
            }});
        """
        assert browser.run(script)
        assert [browser.text("#least"), browser.text("#most")] == ends
        assert browser.text("#scale") == note
        assert colour_range(np.array(numbers)) == tuple(float(end) for end in ends)


def test_keys_move_through_tokens_and_say_what_they_are(browser: Browser, url: str) -> None:
    browser.open(url)
    read(browser, TEXT)
    browser.run("document.querySelector('.tokens').focus()")
    browser.type("\ue014", "\ue014")  # to the right
    said = browser.text("#token-shown")
    assert said.startswith("Token 2 of 5, “ toxic”: sign fraction 0.")
    chosen = browser.run("return document.querySelector('[aria-selected=true]').id")
    box = "document.querySelector('.tokens')"
    assert browser.run(f"return {box}.getAttribute('aria-activedescendant')") == chosen
    browser.type("\ue010")  # to the end
    assert browser.text("#token-shown").startswith("Token 5 of 5")


def test_curves_have_axes_and_say_in_words_what_they_show(
    browser: Browser, url: str, client: TestClient
) -> None:
    browser.open(url)
    read(browser, TEXT)
    found = client.post("/v1/inspect", json={"input": TEXT, "classifiers": []}).json()
    f = found["feature_names"].index("intrinsic_dimension")
    values = [layer[f] for layer in found["values"]]
    labels = browser.run(
        "return [...document.querySelectorAll('#curves svg')].map((one) => one.ariaLabel)"
    )
    assert len(labels) == 2
    assert f"layer 0 to {N_LAYERS - 1}" in labels[0]
    assert f"most {max(values):.4g}"[:9] in labels[0]
    assert browser.texts("#curves figcaption")[1] == "by context length, layer 3"
    browser.fill("#layer", "1")
    assert browser.texts("#curves figcaption")[1] == "by context length, layer 1"
    axes = browser.run("return document.querySelector('#curves svg').textContent")
    assert "layer" in axes
    assert "intrinsic dimension" in axes


def test_tokens_of_an_encoder_have_a_position_and_no_context(
    browser: Browser, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.descriptions.attends_both_ways", lambda _: True)
    browser.open(url)
    read(browser, TEXT)
    assert browser.texts("#curves figcaption")[1] == "by position, layer 3"
    drawn = browser.run("return document.querySelectorAll('#curves svg')[1].textContent")
    assert "position of the token" in drawn
    assert "context" not in drawn


def test_two_texts_are_side_by_side_on_one_scale(browser: Browser, url: str) -> None:
    browser.open(url)
    browser.click("input[value=pair]")
    browser.fill("#other", "hello there")
    read(browser, TEXT)
    assert browser.texts(".panel.verdicts h2") == ["Verdicts, first text", "Verdicts, second text"]
    (asked,) = posted(browser, "/v1/classify")
    assert asked["input"] == [TEXT, "hello there"]
    assert [len(one.split()) for one in browser.texts(".tokens")] == [5, 2]
    places = browser.run(
        "return [...document.querySelectorAll('.tokens')].map((one) => one.getBoundingClientRect())"
    )
    assert places[0]["top"] == places[1]["top"]
    assert places[0]["right"] < places[1]["left"]
    first = browser.run("return document.querySelectorAll('[data-which]').length")
    assert first == 2
    assert len(browser.texts("#maps table")) == 2
    assert len(browser.texts("#curves svg")) == 4


def test_a_conversation_and_each_of_its_messages_are_judged(browser: Browser, url: str) -> None:
    browser.open(url)
    browser.click("input[value=conversation]")
    browser.click("#add")
    assert browser.run("return document.activeElement.ariaLabel") == "Message 1"
    browser.fill("#messages li:nth-child(1) textarea", "hello")
    browser.fill("#messages li:nth-child(2) textarea", "you toxic one")
    browser.fill("#messages li:nth-child(2) select", "assistant")
    browser.click("#run")
    browser.until_state()
    said = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "you toxic one"},
    ]
    (asked,) = posted(browser, "/v1/classify")
    assert asked["input"] == [{"messages": said}, "hello", "you toxic one"]
    titles = browser.texts(".told h3")
    assert titles[0].startswith("user, message 0")
    assert titles[1].startswith("assistant, message 1")
    assert "counted from 0" in browser.text("#conversation")
    assert "toxic" in titles[1]
    assert "toxic" not in titles[0]
    browser.click("#messages li:nth-child(1) button")
    assert len(browser.texts("#messages li button")) == 1
    assert browser.run("return document.querySelector('#messages li button').disabled")


def test_another_reading_stops_the_one_before(browser: Browser, url: str) -> None:
    browser.open(url)
    browser.fill("#text", "first")
    browser.run(
        "document.getElementById('form').requestSubmit();"
        "document.getElementById('text').value = 'second of two';"
        "document.getElementById('form').requestSubmit();"
    )
    browser.until_state()
    assert browser.text(".told") == "second of two"
    assert len(browser.texts(".tokens [role=option]")) == 3
