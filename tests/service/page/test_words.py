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
TAB, ENTER, HOME, RIGHT = "\ue004", "\ue007", "\ue011", "\ue014"
NAMES = ("toxicity", "plain", "encoder", "whole")


@pytest.fixture
def url(catalog: ModelCatalog) -> Iterator[str]:
    with serving(create_app(Settings(), load=lambda *_: catalog)) as base:
        yield base + "/"


def spans_of(client: TestClient, name: str, text: str = TEXT) -> list[dict[str, Any]]:
    """What the service says is where; of a class that it finds and that one may want to find."""
    (row,) = ask(client, input=text, classifier=[name], spans="available")
    verdict = row["verdicts"][name]
    found = [one for one in verdict.get("spans", ()) if one["label"] in verdict["labels"]]
    return [one for one in found if one["label"] == "toxic"]


def marks(browser: Browser) -> list[str]:
    """The marked words, without what is for screen readers alone."""
    script = "return [...document.querySelectorAll('mark')].map((one) => one.childNodes[1].data)"
    return list(browser.run(script))


def focused(browser: Browser, what: str) -> Any:
    return browser.run(f"return document.activeElement.{what}")


def test_words_are_marked_by_who_tells_them(browser: Browser, url: str, client: TestClient) -> None:
    browser.open(url)
    read(browser, TEXT)
    n_marks = 0
    for name in NAMES:
        browser.fill(".words-of select", name)
        spans = spans_of(client, name)
        assert marks(browser) == [TEXT[one["begin"] : one["end"]] for one in spans], name
        listed = browser.texts(".carriers li")
        assert len(listed) == len({(one["begin"], one["end"]) for one in spans})
        assert all(f"({name})" in one for one in listed)
        n_marks += len(spans)
    assert n_marks > 0
    assert spans_of(client, "whole") == []
    remarks = browser.texts(".words .remark")  # still of `whole`
    assert "No such classifier can say where in a text a class is." in remarks


def test_every_carrier_leads_to_its_place(browser: Browser, url: str, client: TestClient) -> None:
    """Each one to its own, whose words it names, also where the text has to be scrolled to it."""
    browser.open(url, width=400)
    read(browser, TEXT)
    browser.fill(".words-of select", "plain")
    buttons = browser.driver.find_elements("css selector", ".carriers button")
    spans = {(one["begin"], one["end"]) for one in spans_of(client, "plain")}
    assert len(buttons) == len(spans) > 1
    reached = set()
    for button in buttons:
        said = str(browser.run("return arguments[0].querySelector('q').textContent", button))
        browser.run("arguments[0].click()", button)
        assert focused(browser, "tagName") == "MARK"
        words = str(focused(browser, "childNodes[1].data"))
        assert words.strip().startswith(said.removesuffix("…"))
        assert str(focused(browser, "title")).startswith("toxic ")
        assert is_seen(browser)
        reached.add(focused(browser, "id"))
    assert len(reached) == len(spans)


def is_seen(browser: Browser) -> bool:
    """Whether what has the focus is within its box, and its box within the window."""
    return bool(
        browser.run("""
            const it = document.activeElement.getBoundingClientRect();
            const box = document.activeElement.closest(".told").getBoundingClientRect();
            return box.top <= it.top + 1 && it.top < box.bottom && 0 <= it.top
                && it.top < innerHeight;
        """)
    )


def test_a_carrier_is_reached_by_keyboard(browser: Browser, url: str) -> None:
    browser.open(url)
    read(browser, TEXT)
    browser.run("document.querySelector('.told').focus()")
    browser.type(TAB)
    assert focused(browser, "closest('.carriers') !== null")
    browser.type(ENTER)
    assert focused(browser, "tagName") == "MARK"
    browser.type(TAB)  # from a mark the list is next, and no mark is a stop of its own
    assert focused(browser, "closest('.carriers') !== null")


def test_a_screen_reader_is_told_what_a_mark_is(browser: Browser, url: str) -> None:
    """Marks say their class in words, and every part of the page has a name."""
    browser.open(url)
    read(browser, TEXT)
    texts = browser.run(
        "return [...document.querySelectorAll('mark')].map((one) => one.textContent)"
    )
    assert texts
    assert all(one.startswith("[toxic: ") and one.endswith("]") for one in texts)
    tree = browser.run("return document.querySelector('.told').ariaLabel")
    assert tree == "Words, as text"
    assert browser.violations() == []


def test_a_token_of_spaces_has_a_name(browser: Browser, url: str) -> None:
    """Else a screen reader says nothing at all where one is chosen."""
    browser.open(url)
    read(browser, "a b  c")
    names = browser.run("""
        return [...document.querySelectorAll('.tokens [role=option]')]
            .filter((one) => !one.textContent.trim()).map((one) => one.ariaLabel)
    """)
    assert names
    assert set(names) <= {"1 space", "2 spaces"}
    browser.run("document.querySelector('.tokens').focus()")
    browser.type(HOME, RIGHT)
    assert browser.text("#token-shown").startswith("Token 2 of ")


def test_marks_are_no_matter_of_colour_alone(browser: Browser, url: str) -> None:
    browser.open(url)
    read(browser, TEXT)
    line = "return getComputedStyle(document.querySelector('mark')).textDecorationLine"
    assert browser.run(line) == "underline"


def test_the_choice_of_a_classifier_is_in_the_link(browser: Browser, url: str) -> None:
    browser.open(url)
    read(browser, TEXT)
    browser.fill(".words-of select", "encoder")
    before = marks(browser)
    browser.click("#link")
    browser.open(browser.driver.current_url)
    browser.until_state()
    assert browser.run("return document.querySelector('.words-of select').value") == "encoder"
    assert marks(browser) == before
