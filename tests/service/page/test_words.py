"""The words that carry a verdict, by classifiers that tell them and one that does not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.models import ModelCatalog
from service.settings import Settings
from tests.browser import Browser
from tests.service.live import serving
from tests.service.page.conftest import read
from tests.service.test_pooled import TEXTS, ask
from tests.service.test_pooled import catalog as catalog

TEXT = "🙂 " + " ".join(TEXTS[:12])


@pytest.fixture
def url(catalog: ModelCatalog) -> Iterator[str]:
    with serving(create_app(Settings(), load=lambda *_: catalog)) as base:
        yield base + "/"


def told(client: TestClient, name: str) -> Any:
    (row,) = ask(client, input=TEXT, classifier=[name], spans="available")
    return row["verdicts"][name]


def test_words_are_marked_by_who_tells_them(browser: Browser, url: str, client: TestClient) -> None:
    browser.open(url)
    read(browser, TEXT)
    names = ["toxicity", "plain", "encoder", "whole"]
    verdicts = {name: told(client, name) for name in names}
    assert "spans" not in verdicts["whole"]
    n_marks = 0
    for name in names:
        browser.fill(".words-of select", name)
        verdict = verdicts[name]
        marks = [
            one.split(": ", 1)[1].removesuffix("]")
            for one in browser.run(
                "return [...document.querySelectorAll('mark')].map((one) => one.textContent)"
            )
        ]
        spans = [
            span
            for span in verdict.get("spans", ())
            if span["label"] in verdict["labels"] and span["label"] == "toxic"
        ]
        assert marks == [TEXT[one["begin"] : one["end"]] for one in spans], name
        listed = browser.texts(".carriers li")
        assert len(listed) == len({(one["begin"], one["end"]) for one in spans})
        assert all(f"({name})" in one for one in listed)
        n_marks += len(marks)
    assert n_marks > 0
    assert "can say where in a text" in browser.text(".words")


def test_a_carrier_leads_to_its_place(browser: Browser, url: str) -> None:
    browser.open(url)
    read(browser, TEXT)
    browser.click(".carriers button")
    assert browser.run("return document.activeElement.tagName") == "MARK"
    assert browser.run("return document.activeElement.title").startswith("toxic ")
    assert browser.violations() == []


def test_marks_are_no_matter_of_colour_alone(browser: Browser, url: str) -> None:
    browser.open(url)
    read(browser, TEXT)
    line = "return getComputedStyle(document.querySelector('mark')).textDecorationLine"
    assert browser.run(line) == "underline"
    assert browser.run("return document.querySelector('mark').textContent").startswith("[toxic: ")
