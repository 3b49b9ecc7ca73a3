"""Conversations by the dozen, and a tiny model that reads them: by itself, and in a service."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from starlette.testclient import TestClient

from service.app import create_app
from service.engine import EngineLimits, SilentListener
from service.models import ModelCatalog, ServedModel, attach, warm_up
from service.settings import Settings
from splinellm import SplineExtractor
from splinellm.backbone.loading import Backbone
from splinellm.learn.labels import Labels
from splinellm.learn.pooled import Pooled
from splinellm.learn.pooled_training import PooledSettings, train_pooled
from splinellm.learn.pooling import Pooling
from tests.chats import CHATML
from tests.planted import planted_texts
from tests.tiny import tiny_backbone

Chat = list[dict[str, str]]
FEATURES = "blocks:8"


def chats(n_rows: int = 60) -> list[Chat]:
    """Conversations of two to six turns, of which the last tells the label."""
    texts = planted_texts(n_rows)
    found = []
    for i, text in enumerate(texts):
        chat = [{"role": "system", "content": f"be kind {i}"}] * (i % 2)
        for turn in range(i % 3):
            chat += [
                {"role": "user", "content": f"what about {i} {turn}?"},
                {"role": "assistant", "content": "a calm answer"},
            ]
        found.append(
            [
                *chat,
                {"role": "user", "content": f"and {i}?"},
                {"role": "assistant", "content": text},
            ]
        )
    return found


def items(rows: list[Chat]) -> list[dict[str, Chat]]:
    return [{"messages": row} for row in rows]


@cache
def backbone() -> Backbone:
    return tiny_backbone()


def extractor(**settings: Any) -> SplineExtractor:
    told = {"features": FEATURES, "chat_template": CHATML, **settings}
    for name in ("model", "dtype", "device", "device_map"):
        told.pop(name, None)
    return SplineExtractor(backbone(), **told)


@cache
def pooled() -> Pooled:
    texts = planted_texts(60)
    labels = Labels("binary", ("clean", "toxic"), np.arange(60) % 2)
    settings = PooledSettings(Pooling(window=8, stride=4), hybrid=True, n_components=None)
    reader = SplineExtractor(backbone(), features=FEATURES, max_tokens=48)
    return train_pooled(texts, labels, reader, name="pooled", settings=settings)


def pieces() -> SplineExtractor:
    return SplineExtractor(backbone(), features=FEATURES, max_tokens=48)


def served(*classifiers: Any) -> ModelCatalog:
    model = ServedModel(
        "tiny",
        backbone(),
        limits=EngineLimits(batch_wait_s=0),
        listener=SilentListener(),
        max_tokens=250,
        chat_template=CHATML,
        prefix_cache_bytes=1 << 24,
    )
    catalog = ModelCatalog([model], [attach(one, [model]) for one in classifiers])
    warm_up(catalog)  # which starts the engine, and asks every classifier
    return catalog


def ask(path: str, body: dict[str, Any], *classifiers: Any) -> Any:
    catalog = served(*classifiers)
    try:
        app = create_app(Settings(), load=lambda *_: catalog)
        with TestClient(app, raise_server_exceptions=False) as client:
            while client.get("/readyz").status_code != 200:
                assert app.state.lifecycle.failure is None
            return client.post(path, json=body).json()
    finally:
        assert catalog.stop(30)
