"""A service over a fake model."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.models import ModelCatalog
from service.settings import Settings
from tests.service.fakes import fake_catalog


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the settings of whoever runs the tests out of them."""
    for name in [name for name in os.environ if name.startswith("SPLINELLM_")]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _quiet_afterwards() -> Iterator[None]:
    """Keep the event log, which a running app sends to standard error, out of other tests."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


@pytest.fixture
def catalog() -> Iterator[ModelCatalog]:
    """One fake model with three classifiers."""
    catalog = fake_catalog()
    yield catalog
    assert catalog.stop(30)


@pytest.fixture
def client(catalog: ModelCatalog) -> Iterator[TestClient]:
    """A client of an app over `catalog`, ready; errors of the server are answers, not raised."""
    app = create_app(Settings(), load=lambda _settings, _listener: catalog)
    with TestClient(app, raise_server_exceptions=False) as client:
        while client.get("/readyz").status_code != 200:
            assert app.state.lifecycle.failure is None
        yield client
