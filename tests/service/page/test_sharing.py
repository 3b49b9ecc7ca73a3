"""A view as a link, and what was asked as code."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.browser import Browser
from tests.service.page.conftest import Serve, read

HOSTILE = (
    '\'; touch stolen; echo "$(touch stolen)" `touch stolen` \\ %s !! ${HOME}\nEND\n\'END\'\n"""\n'
    "</script><script>document.title = 'stolen'</script> \x00\x1b[31m "
    "\u202eevil\u2066 \u2028 \ufeff "
    "שלום 🙂 \U000e0041 \u200b toxic {braces} \\u0041 \\N{BULLET}"
)


def secrets_in(browser: Browser, secret: str) -> list[str]:
    """What it sent anywhere but in a body."""
    return [one["url"] for one in browser.requests() if secret in one["url"]]


def test_a_link_reproduces_the_view_and_is_never_sent(browser: Browser, url: str) -> None:
    browser.open(url)
    browser.click("input[value=pair]")
    browser.fill("#other", "another-secret")
    read(browser, f"a-secret {HOSTILE}")
    browser.fill("#feature", "hyperplane_distance")
    browser.fill("#layer", "1")
    assert browser.driver.current_url == url  # nothing is in the address before it is asked for
    browser.click("#link")
    link = browser.driver.current_url
    assert link.startswith(f"{url}#mode=pair&text=a-secret")
    views = [".verdicts", ".told", ".tokens", "#layer-shown", "#feature", "#curves figcaption"]
    before = [browser.texts(one) for one in views]
    text = browser.run("return document.getElementById('text').value")
    browser.open(link)
    browser.until_state()
    assert [browser.texts(one) for one in views] == before
    assert browser.run("return document.getElementById('text').value") == text
    assert browser.run("return document.getElementById('feature').value") == "hyperplane_distance"
    assert secrets_in(browser, "secret") == []


def test_an_address_that_has_a_view_follows_it(browser: Browser, url: str) -> None:
    browser.open(f"{url}#text=one+two")
    browser.until_state()
    assert browser.texts(".tokens [role=option]") == ["one", " two"]
    read(browser, "three")
    assert "text=three" in browser.driver.current_url
    browser.fill("#layer", "4")
    assert "layer=4" in browser.driver.current_url
    browser.run("document.body.dataset.state = ''; location.hash = '#mode=text&text=four+five'")
    browser.until_state()
    assert browser.text(".told") == "four five"


def test_a_conversation_has_a_link(browser: Browser, url: str) -> None:
    said = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "a toxic <b>"}]
    browser.open(f"{url}#" + "messages=" + json.dumps(said).replace("&", "%26"))
    browser.until_state()
    assert browser.run("return document.querySelector('input[name=mode]:checked').value") == (
        "conversation"
    )
    browser.click("#link")
    link = browser.driver.current_url
    browser.open(link)
    browser.until_state()
    boxes = browser.run(
        "return [...document.querySelectorAll('#messages textarea')].map(b => b.value)"
    )
    assert boxes == ["be kind", "a toxic <b>"]


@pytest.mark.parametrize(
    "fragment",
    ["", "x", "mode=pair", "messages=[", "messages=[{}]", "%", "layer=7", "messages=null"],
)
def test_a_fragment_that_asks_nothing_asks_nothing(
    browser: Browser, url: str, fragment: str
) -> None:
    browser.open(f"{url}#{fragment}")
    browser.until(lambda: browser.texts("#examples button"), "the page is there")
    assert browser.run("return document.body.dataset.state") is None
    assert browser.run("return document.getElementById('text').value") == ""


def test_the_query_is_not_read(browser: Browser, url: str) -> None:
    """What is in it was sent already: nobody shall be led to put texts there."""
    browser.open(f"{url}?text=abc&run")
    browser.until(lambda: browser.texts("#examples button"), "the page is there")
    assert browser.run("return document.body.dataset.state") is None


def copied(browser: Browser, what: str, asked: str) -> str:
    browser.fill("#asked", asked)
    browser.click(f"#copy-{what}")
    said = browser.until(lambda: browser.text("#copied-what"), "it is copied")
    assert "copied" in said or "Ctrl+C" in said
    return str(browser.run("return document.getElementById('copied-text').textContent"))


@pytest.mark.parametrize("keys", [False, True])
@pytest.mark.parametrize("what", ["curl", "python"])
def test_what_is_copied_gives_the_same_answer_whatever_the_text_holds(
    browser: Browser, serve: Serve, client: TestClient, tmp_path: Path, what: str, keys: bool
) -> None:
    if what == "curl" and not shutil.which("curl"):
        pytest.skip("needs curl")
    base = serve(**({"api_keys": "tests:a-key"} if keys else {}))
    browser.open(base + "/")
    if keys:
        browser.fill("#key", "a-key")
        browser.click("#enter")
        browser.until(
            lambda: not browser.run("return document.getElementById('run').disabled"), "in"
        )
    read(browser, HOSTILE)
    command = ["sh", "-c"] if what == "curl" else [sys.executable, "-c"]
    for asked, path in (("verdicts", "classify"), ("features", "inspect")):
        code = copied(browser, what, asked)
        assert "a-key" not in code
        assert code.isprintable() or set(code) - {"\n"} == {c for c in code if c.isprintable()}
        environment = {**os.environ, "SPLINELLM_KEY": "a-key", "no_proxy": "*"}
        done = subprocess.run(
            [*command, code], cwd=tmp_path, env=environment, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        wanted = client.post(f"/v1/{path}", json=body_of(browser, asked, client))
        assert json.loads(done.stdout) == wanted.json()
    assert list(tmp_path.iterdir()) == []


def body_of(browser: Browser, asked: str, client: TestClient) -> Any:
    text = browser.run("return document.getElementById('text').value")
    assert text == HOSTILE
    if asked == "features":
        return {"input": text, "features": "paper", "classifiers": []}
    names = [one["id"] for one in client.get("/v1/classifiers").json()["data"]]
    return {"input": text, "classifier": names, "spans": "available"}
