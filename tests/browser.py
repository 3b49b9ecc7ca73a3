"""A real browser for tests: Chromium and its driver as they are installed; nothing is fetched.

Debian: ``apt install chromium chromium-driver``. Tests are skipped where one is missing.
"""

from __future__ import annotations

import base64
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

WAIT_S = 120
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class Browser:
    """One window of Chromium.

    Parameters
    ----------
    driver : selenium.webdriver.Chrome
        What drives it.
    """

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, url: str, *, width: int = 1200, height: int = 900, dark: bool = False) -> None:
        """Open an address in a fresh page."""
        self.driver.get("about:blank")
        self.requests()
        self.driver.get_log("browser")
        self._command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._command("Emulation.setEmulatedMedia", features=[scheme])
        self.driver.get(url)

    def run(self, script: str, *values: Any) -> Any:
        """Run JavaScript; its ``return`` comes back."""
        return self.driver.execute_script(script, *values)

    def text(self, selector: str) -> str:
        """What a person sees of an element, all of it."""
        found = self.run("return document.querySelector(arguments[0]).innerText", selector)
        return str(found)

    def texts(self, selector: str) -> list[str]:
        """The same of every such element."""
        script = "return [...document.querySelectorAll(arguments[0])].map((one) => one.innerText)"
        return list(self.run(script, selector))

    def click(self, selector: str) -> None:
        """Click as a person does: what is covered cannot be clicked."""
        self.driver.find_element("css selector", selector).click()

    def type(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        self.driver.switch_to.active_element.send_keys(*keys)

    def fill(self, selector: str, value: str) -> None:
        """Put any text into a field; keys of a keyboard cannot type all of them."""
        script = """
            const field = document.querySelector(arguments[0]);
            field.value = arguments[1];
            field.dispatchEvent(new Event("input", { bubbles: true }));
            field.dispatchEvent(new Event("change", { bubbles: true }));
        """
        self.run(script, selector, value)

    def until(self, holds: Callable[[], Any], what: str) -> Any:
        """Wait until something holds, and give it."""
        ends = time.monotonic() + WAIT_S
        while not (found := holds()):
            assert time.monotonic() < ends, f"not within {WAIT_S} s: {what}; {self.complaints()}"
            time.sleep(0.02)
        return found

    def until_state(self, *states: str) -> str:
        """Wait until the service's page says that it is done, or another state."""
        wanted = states or ("done",)
        script = "return document.body.dataset.state"
        found = self.until(lambda: self.run(script) in wanted and self.run(script), str(wanted))
        return str(found)

    def requests(self) -> list[dict[str, Any]]:
        """What was asked for since the last call: ``url``, ``method`` and perhaps ``postData``."""
        found = []
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                found.append(message["params"]["request"])
        return found

    def complaints(self) -> list[str]:
        """Errors and warnings of its console since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def focus(self) -> str:
        """Id of what has the focus; its tag if it has none."""
        script = "const it = document.activeElement; return it.id || it.tagName.toLowerCase()"
        return str(self.run(script))

    def overflow(self) -> int:
        """By how many pixels the page is wider than the window."""
        script = "const page = document.documentElement; return page.scrollWidth - page.clientWidth"
        return int(self.run(script))

    def picture(self, path: Path) -> None:
        """Write the whole page as PNG."""
        script = "return [window.innerWidth, document.documentElement.scrollHeight]"
        width, height = self.run(script)
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        taken = self._command("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(taken["data"]))

    def violations(self, *, without: Sequence[str] = ()) -> list[str]:
        """What axe-core finds, serious or worse: the rule and where."""
        self.run(_axe())
        script = """
            const done = arguments[arguments.length - 1];
            axe.run(document, { resultTypes: ["violations"] }).then(
                (found) => done(found.violations), (error) => done(String(error)));
        """
        found = self.driver.execute_async_script(script)
        assert isinstance(found, list), found
        return [
            f"{one['id']} ({one['impact']}): {node['target']} {node['html'][:120]}"
            for one in found
            if one["impact"] in ("serious", "critical") and one["id"] not in without
            for node in one["nodes"]
        ]

    def _command(self, name: str, **options: Any) -> Any:
        return self.driver.execute_cdp_cmd(name, options)


@contextmanager
def started(folder: Path) -> Iterator[Browser]:
    """Start Chromium with an empty profile in `folder`."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium drives the browser")
    from selenium.webdriver.chrome.service import Service

    program, driver_program = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver_program is None:
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*_FLAGS, f"--user-data-dir={folder}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(driver_program))
    driver.set_script_timeout(WAIT_S)
    try:
        yield Browser(driver)
    finally:
        driver.quit()


def _axe() -> str:
    """The checker's source, from the package that brings it; none of the package's code is run."""
    spec = find_spec("axe_core_python")
    if spec is None or spec.origin is None:
        pytest.skip("needs axe-core-python")
    return (Path(spec.origin).parent / "axe.min.js").read_text(encoding="utf-8")
