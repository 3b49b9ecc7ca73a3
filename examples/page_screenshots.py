"""Pictures of the service's page, in a real browser.

    python examples/page_screenshots.py -o FOLDER [--url http://127.0.0.1:8000] [NAME ...]

Needs ``pip install selenium``, and Chromium with its driver (Debian: ``apt install chromium
chromium-driver``). Starts services of its own unless it is told of one; nothing is fetched but the
models that these read.
"""

from __future__ import annotations

import argparse
import base64
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

KEY = "a-key"
HOSTILE = (
    "<script>document.title = 'stolen'</script> <img src=x onerror=alert(1)>\n"
    "You are an idiot\u202e, says the RTL override; שלום עולם, مرحبا; \x00 NUL; 🙂👩‍🔬; "
    + "long"
    * 60
)
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run")
FLAGS += ("--disable-background-networking", "--disable-component-update", "--disable-sync")
WAIT_S = 600


class Page:
    """The page in a window, of which pictures are taken."""

    def __init__(self, driver: Any, url: str, folder: Path, wanted: list[str]) -> None:
        self.driver, self.url, self.folder, self.wanted = driver, url, folder, wanted

    def open(self, url: str | None = None, *, width: int = 1200, dark: bool = False) -> None:
        """Open it afresh."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.driver.get("about:blank")
        self.driver.get(url or self.url)
        self.until("return document.querySelector('#examples button')")

    def until(self, script: str) -> None:
        """Wait until a script gives something."""
        ends = time.monotonic() + WAIT_S
        while not self.driver.execute_script(script):
            if time.monotonic() > ends:
                raise TimeoutError(script)
            time.sleep(0.05)

    def click(self, selector: str) -> None:
        """Click."""
        self.driver.execute_script("document.querySelector(arguments[0]).click()", selector)

    def read(self, text: str = "", example: str | None = None) -> None:
        """Let a text or an example be read, and wait."""
        script = """
            delete document.body.dataset.state;
            const [text, example] = arguments;
            const examples = [...document.querySelectorAll("#examples button")];
            if (example) return examples.find((one) => one.textContent === example).click();
            document.getElementById("text").value = text;
            document.getElementById("run").click();
        """
        self.driver.execute_script(script, text, example)
        self.until("return ['done', 'failed'].includes(document.body.dataset.state)")

    def picture(self, name: str) -> None:
        """Write all of it as PNG."""
        size = "return [innerWidth, document.documentElement.scrollHeight]"
        width, height = self.driver.execute_script(size)
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        options = {"captureBeyondViewport": True, "clip": clip}
        taken = self.driver.execute_cdp_cmd("Page.captureScreenshot", options)
        (self.folder / f"{name}.png").write_bytes(base64.b64decode(taken["data"]))
        print(f"{self.folder / name}.png: {width} x {height}", flush=True)


def example(name: str, **options: Any) -> Callable[[Page], None]:
    """Take a picture of one of the page's examples."""

    def take(page: Page) -> None:
        page.open(**options)
        page.read(example=name)

    return take


def text(content: str, **options: Any) -> Callable[[Page], None]:
    """Take a picture of a text."""

    def take(page: Page) -> None:
        page.open(**options)
        page.read(content)

    return take


def chosen(page: Page) -> None:
    """Choose a feature, a layer and a token, and copy the command."""
    page.open()
    page.read(example="code")
    page.driver.execute_script("""
        for (const [id, value] of [["feature", "intrinsic_dimension"], ["layer", "7"]]) {
          document.getElementById(id).value = value;
          document.getElementById(id).dispatchEvent(new Event("input", { bubbles: true }));
        }
        document.getElementById("t0-9").click();
        document.getElementById("copy-curl").click();
    """)
    page.until("return document.getElementById('copied-what').textContent")


PICTURES: dict[str, Callable[[Page], None]] = {
    "light": example("insult"),
    "dark": example("insult", dark=True),
    "narrow": example("insult", width=400),
    "kind": example("kind"),
    "long": example("insult in a long text"),
    "long-narrow-dark": example("insult in a long text", width=400, dark=True),
    "two-texts": example("two texts"),
    "two-texts-narrow": example("two texts", width=400),
    "conversation": example("conversation"),
    "conversation-narrow-dark": example("conversation", width=400, dark=True),
    "chosen": chosen,
    "hostile": text(HOSTILE),
    "hostile-narrow-dark": text(HOSTILE, width=400, dark=True),
    "too-many-tokens": text("The sea is calm. " * 400, width=800),
    "too-many-characters": text("🙂 calm " * 20_000, width=800),
}


def with_keys(page: Page) -> None:
    """Take pictures of a service that asks for a key."""
    for dark in (False, True):
        page.open(width=800, dark=dark)
        page.picture("keys-dark" if dark else "keys")
    page.driver.execute_script("document.getElementById('key').value = 'wrong'")
    page.click("#enter")
    page.until("return document.getElementById('door-failure').textContent")
    page.picture("keys-refused-dark")
    page.open(width=800)
    page.driver.execute_script("document.getElementById('key').value = arguments[0]", KEY)
    page.click("#enter")
    page.until("return !document.getElementById('run').disabled")
    page.read(example="insult")
    page.picture("keys-taken")


@contextmanager
def browser() -> Iterator[Any]:
    """Start Chromium, as it is installed."""
    program, driver_program = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver_program is None:
        sys.exit("needs chromium and chromedriver")
    with tempfile.TemporaryDirectory() as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = program
        for flag in (*FLAGS, "--hide-scrollbars", f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=Service(driver_program))
        try:
            yield driver
        finally:
            driver.quit()


@contextmanager
def service(*options: str, **environment: str) -> Iterator[str]:
    """Start the service, and wait for its model."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "from splinellm.cli import main; main()", "serve"]
    command += ["--port", str(port), "--request-timeout-s", str(WAIT_S), *options]
    with subprocess.Popen(  # noqa: S603 - a command of our own
        command, env={**os.environ, **environment}, stderr=subprocess.DEVNULL
    ) as process:
        try:
            url = f"http://127.0.0.1:{port}/"
            while process.poll() is None:
                try:
                    urllib.request.urlopen(url + "readyz").close()  # noqa: S310 - of our own
                    break
                except (urllib.error.URLError, ConnectionError):
                    time.sleep(0.2)
            yield url
        finally:
            process.terminate()


def main() -> None:
    """Take them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", metavar="NAME", help="all by default; keys")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--url", help="of a service that runs")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    names = arguments.names or [*PICTURES, "keys"]
    with browser() as driver:
        if "keys" in names:
            small = ("--model", "minilm-l6", "--classifiers", "toxicity")
            with service(*small, SPLINELLM_API_KEYS=f"somebody:{KEY}") as url:
                with_keys(Page(driver, url, arguments.output, names))
            names.remove("keys")
        if names and arguments.url:
            take(Page(driver, arguments.url, arguments.output, names))
        elif names:
            with service() as url:
                page = Page(driver, url, arguments.output, names)
                take(page)
            page.read("Is anybody there?")  # nobody is
            page.picture("unreachable")


def take(page: Page) -> None:
    """Take pictures of one service."""
    for name in page.wanted:
        PICTURES[name](page)
        page.picture(name)


if __name__ == "__main__":
    main()
