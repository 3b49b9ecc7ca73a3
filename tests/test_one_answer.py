"""One text, one verdict: on the command line, in Python, and from the service, at any length."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.engine import EngineLimits, SilentListener
from service.models import ModelCatalog, ServedModel, attach
from service.settings import Settings
from splinellm import load_classifier
from splinellm.cli import run
from splinellm.learn import shared_backbone
from splinellm.learn.classifier import Classifier

pytestmark = pytest.mark.model

LENGTHS = (1, 5, 40, 255, 256, 257, 700, 5000)
"""About so many tokens; minilm-l6 reads 256 at once."""
NAMES = ("toxicity", "domain", "toxicity-smollm2")


@cache
def texts() -> list[str]:
    told = "the river runs past a stone house where my neighbour, an idiot, sings to 3 cats"
    words = told.split()
    random = np.random.default_rng(0)
    found = [" ".join(random.choice(words, n).tolist()) for n in LENGTHS]
    return [*found, "You are a v\u200bile i d i o t &amp; a fool", "Grüße, 👍!"]


@cache
def classifier(name: str) -> Classifier:
    return load_classifier(name)


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    served = [classifier(name) for name in NAMES]
    models = [
        ServedModel(
            name,
            shared_backbone(name, "float32"),
            limits=EngineLimits(batch_wait_s=0),
            listener=SilentListener(),
            max_tokens=1024,
        )
        for name in dict.fromkeys(one.card.provenance.model for one in served)
    ]
    catalog = ModelCatalog(models, [attach(one, models) for one in served])
    for model in models:
        model.engine.start()
    settings = Settings(request_timeout_s=600, max_queue_tokens=1_000_000)
    app = create_app(settings, load=lambda *_: catalog)
    with TestClient(app) as client:
        while client.get("/readyz").status_code != 200:
            pass
        yield client
    catalog.stop(30)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_verdict_everywhere(
    client: TestClient, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A decoder of 135 million parameters takes its time: two lengths around its limit are enough.
    given = texts() if name != "toxicity-smollm2" else [*texts()[:4], *texts()[6:7], *texts()[8:]]
    monkeypatch.chdir(tmp_path)
    Path("in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in given))
    assert run(["predict", name, "in.jsonl", "-o", "out.jsonl", "-q"]) == 0
    rows: list[dict[str, Any]] = [
        json.loads(line) for line in Path("out.jsonl").read_text().splitlines()
    ]
    frame = classifier(name).scores(given)
    body = {"input": given, "classifier": name, "overflow": "window"}
    answer = client.post("/v1/classify", json=body)
    assert answer.status_code == 200, answer.text
    for i, (row, served) in enumerate(zip(rows, answer.json()["data"], strict=True)):
        labels = (row["predicted"], frame["predicted"][i], served["label"])
        assert len(set(labels)) == 1, (i, labels)
        assert row["n_tokens"] == frame["n_tokens"][i] == served["n_tokens"]
        assert row["truncated"] == frame["truncated"][i] == served["truncated"] is False
        for label, value in served["probabilities"].items():
            column = f"probability.{label}"
            assert row[column] == pytest.approx(frame[column][i], abs=1e-9)
            assert row[column] == pytest.approx(value, abs=1e-4)
    assert max(row["n_tokens"] for row in rows) > (5000 if len(given) == len(texts()) else 700)
