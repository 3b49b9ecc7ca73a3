"""Watching what classifiers judge: a window of numbers, compared with a reference."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.chosen import sketches_of
from service.drift import INTERVAL_S, DriftWindow
from service.models import ModelCatalog, with_windows
from service.settings import Settings, load_settings
from splinellm.errors import ArtifactError, ConfigurationError
from splinellm.learn.watching import Sketch, columns_of, watched_values, write_sketch
from splinellm.table import FeatureTable
from tests.service.fakes import FakeBackbone, FakeExtractor, fake_catalog, token_of

ALERTS = Path(__file__).parents[2] / "deploy/alerts.yml"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def sketch(**changes: Any) -> Sketch:
    values = np.random.default_rng(0).normal(size=(500, 1))
    return Sketch.of(["n_tokens"], values, **changes)


def test_the_window_forgets_and_is_compared_when_it_is_due(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    window = DriftWindow("c", sketch(), 200, clock=clock)
    random = np.random.default_rng(1)
    window.add(random.normal(size=50), {})
    assert window.measure() is None  # too few
    window.add(random.normal(size=150), {})
    first = window.measure()
    assert first is not None
    assert first.value < 1
    for _ in range(10):
        window.add(random.normal(size=100) + 2, {})
    assert len(window) == 200
    assert window.measure() is first  # too early
    clock.now += INTERVAL_S
    with caplog.at_level(logging.WARNING):
        found = window.measure()
    assert found is not None
    assert found.value > 1
    assert found.n_rows == (500, 200)
    (record,) = caplog.records
    assert record.getMessage() == "drift"
    assert record.__dict__["fields"]["columns"] == ["n_tokens"]
    window.add(random.normal(size=200), {})
    clock.now += INTERVAL_S
    with caplog.at_level(logging.WARNING):
        assert window.measure().value < 1  # type: ignore[union-attr]
    assert [one.getMessage() for one in caplog.records] == ["drift", "drift_ended"]
    # More at once than fit: the last ones are kept.
    window.add(np.concatenate([np.full(500, 9.0), random.normal(size=200)]), {})
    clock.now += INTERVAL_S
    assert window.measure().value < 1  # type: ignore[union-attr]


def texts(n: int, seed: int, *, with_toxic: float) -> list[str]:
    random = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        words = [f"w{number}" for number in random.integers(10**6, size=5)]
        found.append(" ".join(["toxic"] * (random.random() < with_toxic) + words))
    return found


@pytest.fixture
def reference(tmp_path: Path, catalog: ModelCatalog) -> Path:
    """Of the toxicity classifier: what the service itself would compute of some texts."""
    one = catalog.classifiers["toxicity"]
    extractor = FakeExtractor(
        FakeBackbone(),
        layers=one.card.provenance.layers,
        features="blocks",
    )
    some = texts(400, 0, with_toxic=0.1)
    rows = [extractor.rows([token_of(word) for word in text.split()]) for text in some]
    probabilities = one.classifier.probabilities(np.concatenate(rows))
    names = columns_of(None, one.card)
    scores = {"probability.toxic": probabilities[:, 1]}
    lengths = np.array([len(text.split()) for text in some])
    made = Sketch.of(names, watched_values(names, lengths, scores), None, "")
    write_sketch(made, tmp_path / "r.json")
    return tmp_path / "r.json"


def drift_of(client: TestClient) -> dict[str, float]:
    found = client.get("/metrics").text
    return {
        name: float(value)
        for name, value in re.findall(r'^splinellm_drift\{classifier="(.*)"\} (.*)$', found, re.M)
    }


@pytest.mark.parametrize(("with_toxic", "has_drifted"), [(0.1, False), (0.9, True)])
def test_a_service_tells_whether_what_it_judges_has_drifted(
    reference: Path, with_toxic: float, has_drifted: bool
) -> None:
    settings = Settings(drift_reference=(f"toxicity={reference}",), drift_window=300)
    catalog = fake_catalog()
    served = [*catalog.classifiers.values()]
    sketches = sketches_of([one.classifier for one in served], settings.references)
    found = with_windows(served, sketches, settings.drift_window)
    catalog.classifiers = {one.name: one for one in found}
    app = create_app(settings, load=lambda *_: catalog)
    with TestClient(app) as client:
        while client.get("/readyz").status_code != 200:
            assert app.state.lifecycle.failure is None
        assert drift_of(client) == {}
        some = texts(300, 1, with_toxic=with_toxic)
        for begin in range(0, 300, 100):
            body = {"input": some[begin : begin + 100], "classifier": "toxicity"}
            assert client.post("/v1/classify", json=body).status_code == 200
        told = drift_of(client)
        assert list(told) == ["toxicity"]
        assert (told["toxicity"] > 1) is has_drifted
        assert 'splinellm_drift_inputs{classifier="toxicity"} 300.0' in client.get("/metrics").text
        # Nothing of the texts is kept: numbers alone.
        window = found[0].drift
        assert window is not None
        assert [type(one) for one in vars(window).values() if isinstance(one, str | list)] == [str]
    assert catalog.stop(30)


def test_features_are_watched_where_a_classifier_reads_them(
    tmp_path: Path, catalog: ModelCatalog
) -> None:
    one = catalog.classifiers["domain"]
    source = one.card.provenance
    extractor = FakeExtractor(FakeBackbone(), layers=source.layers, features="blocks")
    lengths = np.random.default_rng(0).integers(2, 30, 150)
    values = np.concatenate([extractor.rows([int(i), 7]) for i in range(150)])
    features = FeatureTable(values, lengths.astype(np.int64), np.zeros(150, bool), source)
    names = columns_of(features, None)
    made = Sketch.of(names, watched_values(names, lengths, {}, features), source)
    write_sketch(made, tmp_path / "r.json")
    sketches = sketches_of([one.classifier], {"domain": tmp_path / "r.json"})
    (found,) = with_windows([one], sketches, 200)
    found.verdicts(features, range(150), is_watched=True)
    assert found.drift is not None
    assert len(found.drift) == 150
    drift = found.drift.measure()
    assert drift is not None
    assert drift.value < 1
    assert drift.distances.max() < 0.01  # the same rows
    found.verdicts(features, range(150))
    assert len(found.drift) == 150  # a text that grows does not count


def test_references_that_do_not_fit_stop_the_start(tmp_path: Path, catalog: ModelCatalog) -> None:
    one = catalog.classifiers["toxicity"].classifier
    write_sketch(sketch(classifier="other"), tmp_path / "r.json")
    with pytest.raises(ConfigurationError, match="no classifier 'x' is served"):
        sketches_of([one], {"x": tmp_path / "r.json"})
    with pytest.raises(ConfigurationError, match="cannot read"):
        sketches_of([one], {"toxicity": tmp_path / "none.json"})
    made = Sketch.of(
        ["probability.toxic"], np.random.default_rng(0).random((100, 1)), None, "other"
    )
    write_sketch(made, tmp_path / "r.json")
    with pytest.raises(ArtifactError, match="of another classifier"):
        sketches_of([one], {"toxicity": tmp_path / "r.json"})
    for told in ("toxicity", "=x", "a=x,a=y"):
        with pytest.raises(ConfigurationError, match="drift_reference"):
            load_settings(drift_reference=told)
    with pytest.raises(ConfigurationError, match="drift_window"):
        load_settings(drift_window=10)


def test_the_alert_is_of_a_metric_that_there_is() -> None:
    (expression,) = re.findall(r"expr: (.*)", ALERTS.read_text())
    assert expression == "splinellm_drift > 1"
    configured = (ALERTS.parent / "prometheus.yml").read_text()
    assert json.loads(re.findall(r"rule_files: (.*)", configured)[0]) == [ALERTS.name]
    assert ALERTS.name in (ALERTS.parent / "docker-compose.yml").read_text()
