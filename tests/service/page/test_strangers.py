"""Texts and names of strangers are text, everywhere; and large ones are shown, too."""

from __future__ import annotations

import pytest

from tests.browser import Browser
from tests.service.page.conftest import Serve, read

HOSTILE = (
    "<script>document.title='stolen'</script><img src=x onerror=\"document.title='stolen'\">"
    "\x00\x07\x1b[31m\u202eevil\u2066\u200f & &amp; 🙂 שלום toxic "
    "{{7*7}} ${7*7} \u2028 'quote' \"quote\""
)
SEEN = (
    "<script>document.title='stolen'</script><img src=x onerror=\"document.title='stolen'\">"
    "␀␇␛[31m\\u202eevil\\u2066\\u200f & &amp; 🙂 שלום toxic "
    "{{7*7}} ${7*7} \\u2028 'quote' \"quote\""
)
_COUNTED = "return document.querySelectorAll('script, img, iframe, object, style').length"


@pytest.mark.parametrize("mode", ["text", "pair", "conversation"])
def test_hostile_text_is_text(browser: Browser, url: str, mode: str) -> None:
    browser.open(url)
    n_elements = browser.run(_COUNTED)
    browser.click(f"input[value={mode}]")
    if mode == "conversation":
        browser.fill("#messages textarea", HOSTILE)
        browser.click("#run")
        browser.until_state()
    else:
        browser.fill("#other", HOSTILE)
        read(browser, HOSTILE)
    for what in (".told", ".tokens"):
        text = browser.run("return document.querySelector(arguments[0]).textContent", what)
        assert SEEN.replace(" ", "") in text.replace(" ", "").replace("·", ""), what
    for button in ("copy-link", "copy-curl", "copy-python"):
        browser.click(f"#{button}")
    browser.run("document.querySelector('.tokens').focus()")
    browser.type("\ue010")
    assert browser.run("return document.title") == "splinellm"
    assert browser.run(_COUNTED) == n_elements
    assert browser.overflow() == 0


def test_what_is_no_character_is_refused_in_a_sentence(browser: Browser, url: str) -> None:
    browser.open(url)
    browser.run("document.getElementById('text').value = 'a \\ud800 b'")
    browser.click("#run")
    assert browser.until_state("failed")
    assert "input" in browser.text("#failure span")
    browser.complaints()


def test_a_text_of_100_000_characters(browser: Browser, serve: Serve) -> None:
    """All of it is shown, and nothing of it is beside the page."""
    text = ("<b>toxic</b> " + "x" * 60 + "\u202e🙂 ") * 1400
    assert len(text) > 100_000
    browser.open(serve(max_input_chars=200_000) + "/", width=400)
    assert read(browser, text, "done", "failed") == "failed"
    browser.complaints()
    browser.click("#failure button")
    browser.until_state()
    shown = browser.run("return document.querySelector('.told').textContent")
    assert shown == text.replace("\u202e", "\\u202e")
    assert browser.overflow() == 0
    browser.click("#copy-link")
    browser.until(lambda: "characters long" in browser.text("#copied-what"), "it is said")


def test_a_text_beyond_the_limit_of_characters(browser: Browser, url: str) -> None:
    browser.open(url)
    assert read(browser, "toxic " * 17_000, "failed") == "failed"
    assert "102,000 characters, and the service reads 65,536 at most" in browser.text("#failure")
    browser.complaints()
