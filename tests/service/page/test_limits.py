"""Keys, paths, limits and failures, as who uses the page meets them."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from service.app import create_app
from service.models import ModelCatalog
from service.settings import Settings
from tests.browser import Browser
from tests.service.fakes import fake_catalog
from tests.service.live import serving
from tests.service.page.conftest import Serve, read

KEY = "tests:schlüssel-7"


def run_is_closed(browser: Browser) -> bool:
    return bool(browser.run("return document.getElementById('run').disabled"))


def test_a_key_is_asked_for_kept_in_the_tab_and_sent_in_a_header_alone(
    browser: Browser, serve: Serve
) -> None:
    url = serve(api_keys=KEY) + "/"
    browser.open(url)
    assert browser.text("#door-title") == "This service asks for a key"
    assert run_is_closed(browser)
    browser.fill("#key", "wrong")
    browser.click("#enter")
    browser.until(lambda: browser.text("#door-failure"), "it is refused")
    assert browser.text("#door-failure") == "That is not a key of this service."
    assert browser.focus() == "key"
    assert all("401" in one for one in browser.complaints())
    browser.fill("#key", "schlüssel-7")
    browser.click("#enter")
    browser.until(lambda: not run_is_closed(browser), "it is taken")
    read(browser, "a toxic one")
    stores = "return [localStorage.length, sessionStorage.length, document.cookie, location.href]"
    assert browser.run(stores) == [0, 1, "", url]
    assert not [one for one in browser.requests() if "schl" in one["url"]]
    browser.driver.refresh()
    browser.until(lambda: not run_is_closed(browser), "a tab keeps it")
    browser.click("#leave")
    assert run_is_closed(browser)
    assert browser.run("return sessionStorage.length") == 0


def test_a_link_waits_for_the_key(browser: Browser, serve: Serve) -> None:
    browser.open(serve(api_keys=KEY) + "/#text=a+toxic+one")
    assert run_is_closed(browser)
    browser.fill("#key", "schlüssel-7")
    browser.click("#enter")
    browser.until_state()
    assert browser.text(".told") == "a toxic one"


@pytest.mark.parametrize("slash", ["/", ""])
def test_it_works_below_a_path(browser: Browser, serve: Serve, slash: str) -> None:
    url = serve(root_path="/ai/spline") + "/ai/spline" + slash
    browser.open(url)
    read(browser, "a toxic one")
    asked = [one["url"] for one in browser.requests() if one["url"].startswith("http")]
    assert asked
    assert all(one.startswith(url) for one in asked)
    browser.click("#link")
    assert browser.driver.current_url.startswith(f"{url}#mode=text")
    code = "return document.getElementById('copied-text').textContent"
    browser.click("#copy-curl")
    browser.until(lambda: browser.run(code), "it is copied")
    assert f"{url.rstrip('/')}/v1/classify" in browser.run(code)


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_nothing_is_asked_of_anybody_else(browser: Browser, serve: Serve, path: str) -> None:
    base = serve()
    browser.open(base + path)
    if path == "/":
        read(browser, "a toxic <img src='http://192.0.2.1/x.png'> one")
    else:
        browser.until(lambda: "/v1/classify" in browser.text("body"), "the document is shown")
    asked = {one["url"] for one in browser.requests()}
    assert {one for one in asked if not one.startswith((base + "/", "data:"))} == set()


@pytest.fixture
def small(browser: Browser) -> Iterator[str]:
    """A service that reads little."""
    catalog = fake_catalog(max_tokens=40, classifier_tokens=16)
    settings = Settings(max_input_chars=300, max_input_tokens=40)
    with serving(create_app(settings, load=lambda *_: catalog)) as base:
        yield base + "/"
    assert catalog.stop(30)


def test_a_text_of_too_many_tokens_has_a_way_out(browser: Browser, small: str) -> None:
    browser.open(small)
    assert read(browser, "toxic " + "x " * 60, "done", "failed") == "failed"
    assert browser.text("#failure span") == (
        "The text has 62 tokens, and a verdict is made of 40 at most, unless it is read in parts."
    )
    assert browser.texts(".verdict") == []
    assert "the rest of the text is not read here" in browser.text("#tokens")
    browser.complaints()
    browser.click("#failure button")
    browser.until_state()
    assert browser.text("#failure") == ""
    assert "overlapping windows" in browser.text(".verdict")
    browser.click("#link")
    assert "overflow=window" in browser.driver.current_url
    browser.open(browser.driver.current_url)
    browser.until_state()
    assert "overlapping windows" in browser.text(".verdict")


@pytest.mark.parametrize("which", ["text", "other"])
def test_a_text_of_too_many_characters_has_a_way_out(
    browser: Browser, small: str, which: str
) -> None:
    browser.open(small)
    browser.click("input[value=pair]")
    for name in ("text", "other"):
        browser.fill(f"#{name}", "🙂 " * 200 if name == which else "short")
    browser.click("#run")
    browser.until_state("failed")
    name = "first" if which == "text" else "second"
    assert browser.text("#failure span") == (
        f"The {name} text has 400 characters, and the service reads 300 at most."
    )
    browser.complaints()
    browser.click("#failure button")
    browser.until_state()
    kept = browser.run("return document.getElementById(arguments[0]).value", which)
    assert kept == "🙂 " * 150


def test_a_conversation_that_is_too_long_says_what_to_do(browser: Browser, small: str) -> None:
    browser.open(small)
    browser.click("input[value=conversation]")
    browser.fill("#messages textarea", "x" * 301)
    browser.click("#run")
    browser.until_state("failed")
    assert browser.text("#failure").startswith("The conversation has 301 characters")
    assert browser.text("#failure").endswith("remove messages, or shorten them.")
    browser.complaints()


def test_it_can_be_tried_again_once_the_service_is_there(browser: Browser) -> None:
    opened = threading.Event()

    def load(*_: object) -> ModelCatalog:
        assert opened.wait(60)
        return catalog

    catalog = fake_catalog()
    with serving(create_app(Settings(), load=load), is_awaited=False) as base:
        browser.open(base + "/")
        assert read(browser, "a toxic one", "failed") == "failed"
        assert "loading" in browser.text("#failure span")
        browser.complaints()
        opened.set()

        def tried() -> bool:
            browser.click("#failure button")
            return browser.until_state("done", "failed") == "done"

        browser.until(tried, "it is loaded")
        browser.complaints()
    assert catalog.stop(30)


def test_who_is_gone_is_said_to_be_gone(browser: Browser, serve: Serve) -> None:
    catalog = fake_catalog()
    with serving(create_app(Settings(), load=lambda *_: catalog)) as base:
        browser.open(base + "/")
        read(browser, "one")
    assert read(browser, "two", "failed") == "failed"
    assert browser.text("#failure span") == "The service cannot be reached."
    assert browser.texts("#failure button") == ["Try again"]
    assert browser.text("#text") is not None
    browser.complaints()
    assert catalog.stop(30)


def test_an_error_is_shown_as_the_service_says_it(browser: Browser, url: str) -> None:
    browser.open(url)
    assert read(browser, "POISON", "failed") == "failed"
    assert "failed" in browser.text("#failure span")
    browser.complaints()
