"""The page by keyboard, for screen readers, in a narrow window, light and dark."""

from __future__ import annotations

import pytest

from tests.browser import Browser
from tests.service.page.conftest import Serve, read

TAB, ENTER, CONTROL, NULL, SPACE, RIGHT = "\ue004", "\ue007", "\ue009", "\ue000", " ", "\ue014"


@pytest.mark.parametrize(
    ("mode", "width", "dark"),
    [
        ("text", 1200, False),
        ("text", 400, True),
        ("pair", 1200, True),
        ("pair", 400, False),
        ("conversation", 400, True),
        ("conversation", 1200, False),
    ],
)
def test_axe_finds_nothing_serious(
    browser: Browser, url: str, mode: str, width: int, dark: bool
) -> None:
    browser.open(url, width=width, dark=dark)
    browser.click(f"input[value={mode}]")
    assert browser.violations() == []
    if mode == "conversation":
        browser.fill("#messages textarea", "you toxic insult")
        browser.click("#run")
        browser.until_state()
    else:
        browser.fill("#other", "hello")
        read(browser, "you toxic insult")
    browser.click("#copy-curl")
    assert browser.violations() == []
    assert browser.overflow() == 0


@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing_serious_where_something_failed(
    browser: Browser, serve: Serve, dark: bool
) -> None:
    browser.open(serve(api_keys="a:b") + "/", dark=dark)
    browser.fill("#key", "wrong")
    browser.click("#enter")
    browser.until(lambda: browser.text("#door-failure"), "it is refused")
    browser.complaints()
    assert browser.violations() == []
    browser.fill("#key", "b")
    browser.click("#enter")
    browser.until(lambda: not browser.run("return document.getElementById('run').disabled"), "in")
    read(browser, "x " * 70_000, "failed")
    browser.complaints()
    assert browser.violations() == []


def test_everything_can_be_done_by_keyboard(browser: Browser, url: str) -> None:
    browser.open(url)
    browser.run("document.querySelector('nav a').focus()")
    browser.type(TAB, RIGHT)
    assert browser.run("return document.querySelector('input[name=mode]:checked').value") == "pair"
    browser.type(TAB)
    assert browser.focus() == "text"
    browser.type("a toxic one", TAB, "hello", CONTROL + ENTER + NULL)
    browser.until_state()
    reached = []
    while browser.focus() != "body" and len(reached) < 60:
        browser.type(TAB)
        reached.append(browser.focus())
    wanted = ("run", "link", "copy-link", "copy-curl", "copy-python", "asked", "feature", "layer")
    assert set(wanted) <= set(reached)
    for name in ("select", "summary", "td"):  # words of which classifier; its flaws; a cell
        assert name in reached
    browser.run("document.getElementById('layer').focus()")
    before = browser.text("#layer-shown")
    browser.type(RIGHT)
    assert browser.text("#layer-shown") != before


def test_the_end_of_a_reading_is_announced(browser: Browser, url: str) -> None:
    browser.open(url)
    read(browser, "a toxic one")
    said = browser.run("return document.getElementById('status').textContent")
    assert "toxicity: toxic" in said
    assert browser.run("return document.getElementById('status').getAttribute('role')") == "status"


def test_what_is_missing_is_asked_for(browser: Browser, url: str) -> None:
    browser.open(url)
    browser.click("#run")
    assert browser.focus() == "text"
    assert browser.run("return document.getElementById('text').validity.valueMissing")
    assert browser.run("return document.body.dataset.state") is None


def test_cells_are_reached_by_arrows(browser: Browser, url: str) -> None:
    browser.open(url)
    read(browser, "a toxic one")
    browser.run("document.querySelector('#maps td[tabindex=\"0\"]').focus()")
    first = browser.text("#cell")
    browser.type(RIGHT, "\ue015")
    assert first.startswith("Layer 0, sign mean: 0.")
    assert browser.text("#cell").startswith("Layer 1, sign min: 0.")
