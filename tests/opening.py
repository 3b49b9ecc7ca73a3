"""What a page of a file asks for when a real browser opens it, where one is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

_BROWSER = "not an origin"


def chromium() -> str:
    """Path of a Chromium or Chrome; skips the test where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("no Chromium is installed")


def opened(page: Path, folder: Path) -> tuple[str, list[str]]:
    """What a page's document became when it was opened, and the addresses it asked for.

    Parameters
    ----------
    page : Path
        File.
    folder : Path
        For the browser's own files.
    """
    log = folder / "net.json"
    done = subprocess.run(
        [
            chromium(),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-component-update",
            "--disable-background-networking",
            "--no-first-run",
            "--host-resolver-rules=MAP * ~NOTFOUND",  # whatever is asked for stays here
            "--virtual-time-budget=20000",
            f"--user-data-dir={folder / 'profile'}",
            f"--log-net-log={log}",
            "--dump-dom",
            page.resolve().as_uri(),
        ],
        capture_output=True,
        timeout=300,
        check=True,
    )
    text = log.read_text(encoding="utf-8").rstrip().rstrip(",")
    try:
        record = json.loads(text)
    except json.JSONDecodeError:  # the browser ended before its log did
        record = json.loads(text + "]}")
    events = [event.get("params", {}) for event in record["events"]]
    # The browser asks for things of its own, too, and names nobody who wanted them.
    asked = {one["url"] for one in events if one.get("initiator", _BROWSER) != _BROWSER}
    return done.stdout.decode(), sorted(asked - {page.resolve().as_uri()})
