"""The table of metrics in docs/service.md is what Prometheus sees."""

from __future__ import annotations

import re
from pathlib import Path

from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from tests.service.fakes import fake_catalog

DOCUMENT = Path(__file__).parents[2] / "docs" / "service.md"


def documented() -> set[str]:
    """Names in the first column, those of counters as they are exported."""
    text = DOCUMENT.read_text(encoding="utf-8")
    table = text.split("| metric (`splinellm_…`) | labels |\n|---|---|\n")[1].split("\n\n")[0]
    return {
        name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])
    }


def test_every_metric_is_in_the_table() -> None:
    catalog = fake_catalog()
    with TestClient(create_app(Settings(), load=lambda *_: catalog)) as client:
        while client.get("/readyz").status_code != 200:
            pass
        text = client.get("/metrics").text
    exported = {
        name
        for name in re.findall(r"^# TYPE splinellm_(\w+) ", text, re.M)
        if not name.endswith("_created")
    }
    assert exported == documented()
