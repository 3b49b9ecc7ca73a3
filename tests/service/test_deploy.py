"""What deploy/ asks Prometheus for is what /metrics exports; docs/service.md lists all of it.

Its files agree with each other, with the image and with the settings.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from service.app import create_app
from service.drift import DriftWindow
from service.engine.contracts import BatchReport
from service.models import with_windows
from service.settings import Settings
from splinellm.extraction.prefix_cache import PrefixCache
from splinellm.learn.watching import Sketch
from tests.service.fakes import fake_catalog

ROOT = Path(__file__).parents[2]
PANELS = json.loads((ROOT / "deploy/grafana-dashboard.json").read_text())["panels"]
ALERTS = (ROOT / "deploy/alerts.yml").read_text()
COMPOSE = yaml.safe_load((ROOT / "deploy/docker-compose.yml").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text()
OWN = {"instance", "job"}
"""Labels that Prometheus itself puts on what it scrapes."""

Labels = dict[str, set[str]]


@pytest.fixture(scope="module")
def exported() -> Labels:
    """Labels of every metric, once everything that can happen has happened."""
    catalog = fake_catalog()
    catalog.get("fake").prefix_cache = PrefixCache(1000)
    sketch = Sketch.of(["n_tokens"], np.arange(500.0)[:, None])
    served = with_windows([*catalog.classifiers.values()], {"toxicity": sketch}, 200)
    catalog.classifiers = {one.name: one for one in served}
    app = create_app(Settings(), load=lambda *_: catalog)
    with TestClient(app) as client:
        while client.get("/readyz").status_code != 200:
            assert app.state.lifecycle.failure is None
        window = next(one.drift for one in served if one.drift is not None)
        assert isinstance(window, DriftWindow)
        window.add(np.arange(200.0), {})
        _let_everything_happen(app.state.metrics)
        client.post("/v1/classify", json={"input": ["x"] * 300})
        client.post("/v1/classify", json={"input": "toxic"})
        families = [*text_string_to_metric_families(client.get("/metrics").text)]
    catalog.stop(30)
    found: Labels = {}
    for family in families:
        assert family.samples, f"{family.name} has no sample here: let it happen above"
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def _let_everything_happen(metrics: Any) -> None:
    report = BatchReport(
        inputs=2,
        distinct_inputs=1,
        tokens=3,
        padded_tokens=4,
        inference_s=0.1,
        waits_s=(0.1, 0.1),
        error_codes=("inference_failed",),
    )
    metrics.batch_done("fake", report)
    metrics.batch_retried("fake", 2)
    metrics.dropped("fake", 1)
    metrics.rejected("fake", "tokens", 1)
    metrics.restarted("fake")
    metrics.stopped("fake", 1)
    metrics.input_decided("toxicity", "person")
    metrics.inputs_truncated(1)


def selectors(query: str) -> list[tuple[str, set[str]]]:
    """Metrics of a query, each with the labels that it chooses by."""
    found = re.findall(r"\b((?:splinellm|process)_\w+)(?:\{([^}]*)\})?", query)
    return [(name, set(re.findall(r"(\w+)\s*[=!]", chosen))) for name, chosen in found]


def targets() -> list[tuple[str, str, str]]:
    """Title of the panel, query and legend."""
    return [
        (panel["title"], target["expr"], target["legendFormat"])
        for panel in PANELS
        for target in panel["targets"]
    ]


@pytest.mark.parametrize(("title", "query", "legend"), targets())
def test_a_panel_asks_for_names_and_labels_that_there_are(
    title: str, query: str, legend: str, exported: Labels
) -> None:
    asked = selectors(query)
    assert asked, title
    kept = {name for by in re.findall(r"by \(([^)]*)\)", query) for name in by.split(", ")}
    shown = set(re.findall(r"\{\{(\w+)\}\}", legend))
    for name, chosen in asked:
        assert name in exported, title
        assert chosen | kept | shown <= exported[name] | OWN, title
    if "sum by" in query:
        assert shown <= kept, title  # other labels are gone after the sum


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_has_the_unit_of_what_it_asks_for(panel: dict[str, Any]) -> None:
    assert {unit_of(target["expr"]) for target in panel["targets"]} == {
        panel["fieldConfig"]["defaults"]["unit"]
    }


def unit_of(query: str) -> str:
    """Grafana's name of the unit; a quotient of two rates is the mean of what is counted."""
    if "_seconds" in query:
        return "s"
    if "_bytes" in query:
        return "bytes"
    if "_ratio" in query:
        return "percentunit"
    if "rate(" not in query or " / " in query:
        return "short"
    return "reqps" if re.search("_(requests|rejected|queue_refused)_total", query) else "cps"


def test_the_alert_asks_for_what_there_is(exported: Labels) -> None:
    for query in re.findall(r"expr: (.*)", ALERTS):
        for name, chosen in selectors(query):
            shown = set(re.findall(r"\$labels\.(\w+)", ALERTS))
            assert chosen | shown <= exported[name] | OWN


def test_variables_are_those_that_there_are() -> None:
    known = {f"SPLINELLM_{name.upper()}" for name in Settings.model_fields}
    known |= {"SPLINELLM_CACHE", "SPLINELLM_OFFLINE"}  # the library's own
    for path in [ROOT / "Dockerfile", *(ROOT / "deploy").iterdir()]:
        named = set(re.findall(r"SPLINELLM_[A-Z_]+", path.read_text(encoding="utf-8")))
        assert named <= known, path.name


def test_ports_are_those_of_the_image() -> None:
    (port,) = re.findall(r"SPLINELLM_PORT=(\d+)", DOCKERFILE)
    assert re.findall(r"^EXPOSE (\d+)$", DOCKERFILE, re.MULTILINE) == [port]
    (service, prometheus, grafana) = (
        COMPOSE["services"][name]["ports"] for name in ("splinellm", "prometheus", "grafana")
    )
    assert (service, prometheus, grafana) == (
        [f"127.0.0.1:{port}:{port}"],
        ["127.0.0.1:9090:9090"],
        ["127.0.0.1:3000:3000"],
    )
    (scraped,) = yaml.safe_load((ROOT / "deploy/prometheus.yml").read_text())["scrape_configs"]
    assert scraped["static_configs"] == [{"targets": [f"splinellm:{port}"]}]
    assert "metrics_path" not in scraped  # /metrics, which is where they are
    assert f"server 127.0.0.1:{Settings().port};" in (ROOT / "deploy/nginx.conf").read_text()


def test_what_is_mounted_is_there_and_where_it_is_looked_for() -> None:
    services, configs = COMPOSE["services"], COMPOSE["configs"]
    mounted = {}
    for service in ("prometheus", "grafana"):
        for volume in services[service]["volumes"]:
            source, target, mode = volume.split(":")
            assert mode == "ro"
            assert (ROOT / "deploy" / source).is_file(), source
            mounted[target] = source
    rules = yaml.safe_load((ROOT / "deploy/prometheus.yml").read_text())["rule_files"]
    for name in ("prometheus.yml", *rules):  # looked for beside the configuration
        assert mounted[f"/etc/prometheus/{name}"] == f"./{name}"
    assert {config["source"] for config in services["grafana"]["configs"]} == {*configs}
    (source,) = yaml.safe_load(configs["datasource"]["content"])["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    (provider,) = yaml.safe_load(configs["dashboards"]["content"])["providers"]
    assert any(path.startswith(provider["options"]["path"] + "/") for path in mounted)


def test_a_container_has_the_time_to_drain() -> None:
    grace = COMPOSE["services"]["splinellm"]["stop_grace_period"]
    assert float(grace.removesuffix("s")) > Settings().drain_timeout_s


def test_the_document_lists_every_metric_with_its_labels(exported: Labels) -> None:
    text = (ROOT / "docs/service.md").read_text(encoding="utf-8")
    table = text.split("| metric (`splinellm_…`) | labels |")[1].split("\n\n")[0]
    listed = {}
    for line in table.splitlines()[2:]:
        _, names, labels, _ = line.split("|")
        for name in re.findall(r"`(\w+)`", names):
            listed[f"splinellm_{name}"] = set(re.findall(r"`(\w+)`", labels))
    histograms = {name.removesuffix("_bucket") for name in exported if name.endswith("_bucket")}
    parts = {f"{name}{end}" for name in histograms for end in ("_sum", "_count", "_bucket")}
    expected = {
        name: exported[f"{name}_bucket" if name in histograms else name] - {"le"}
        for name in {*exported, *histograms} - parts
        if name.startswith("splinellm_") and not name.endswith("_created")
    }
    assert listed == expected
