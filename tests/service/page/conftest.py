"""The page in a browser, over a fake model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from service.app import create_app
from service.models import ModelCatalog
from service.settings import load_settings
from tests.browser import Browser, started
from tests.service.live import serving

Serve = Callable[..., str]


@pytest.fixture(scope="session")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests of a process: starting it takes longer than a test."""
    with started(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture
def browser(window: Browser) -> Iterator[Browser]:
    """The browser; a test may leave no complaint in its console."""
    yield window
    assert window.complaints() == []


@pytest.fixture
def serve(catalog: ModelCatalog) -> Iterator[Serve]:
    """Serve the fake model with some settings; gives the address."""
    with ExitStack() as stack:

        def start(**options: Any) -> str:
            app = create_app(load_settings(**options), load=lambda *_: catalog)
            return stack.enter_context(serving(app))

        yield start


@pytest.fixture
def url(serve: Serve) -> str:
    """The page as it comes."""
    return serve() + "/"


def read(browser: Browser, text: str, *states: str) -> str:
    """Let a text be read; gives the state that it ends in."""
    browser.run("document.body.dataset.state = ''")
    browser.fill("#text", text)
    browser.click("#run")
    return browser.until_state(*(states or ("done",)))
