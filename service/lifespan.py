"""What happens before the first request and after the last."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias

from fastapi import FastAPI

from service.engine.contracts import EngineListener
from service.logs import configure_logging, log_event, log_exception
from service.settings import Settings
from splinellm.errors import SplineLLMError

if TYPE_CHECKING:
    from service.models import ModelCatalog

Load: TypeAlias = "Callable[[Settings, EngineListener], ModelCatalog]"
"""Loads what the settings name; :func:`service.models.load_models` or a fake."""


@asynccontextmanager
async def run(app: FastAPI, load: Load) -> AsyncIterator[None]:
    """Load the models in the background, and stop their engines at the end.

    While they load, the service listens: a probe can tell a slow start from a dead process.
    """
    state = app.state
    configure_logging(state.settings.log_level)
    pool = ThreadPoolExecutor(state.settings.cpu_threads, thread_name_prefix="cpu")
    state.pool = pool
    # A daemon: the end of the process does not wait for a download.
    threading.Thread(target=_load, args=(app, load), name="load", daemon=True).start()
    yield
    state.lifecycle.drain()
    await asyncio.to_thread(stop_engines, app, state.lifecycle.time_left_s)
    pool.shutdown(cancel_futures=True)
    gc.unfreeze()


def stop_engines(app: FastAPI, timeout_s: float) -> None:
    """Let all engines finish what they have accepted, then fail what is left."""
    catalog = getattr(app.state, "catalog", None)
    if catalog is not None:
        catalog.stop(timeout_s)


def _use_threads(n_threads: int | None) -> None:
    """Limit the threads of a forward pass; those that begin later, the engines', are told, too."""
    if n_threads is not None:
        import torch  # slow, and not on the way to the first answer of a probe

        torch.set_num_threads(n_threads)


def _load(app: FastAPI, load: Load) -> None:
    state = app.state
    try:
        _use_threads(state.settings.threads)
        catalog = load(state.settings, state.metrics)
        state.metrics.watch_models(catalog)
    except Exception as error:  # noqa: BLE001 - whatever it is, probes and the command must know
        state.lifecycle.failed(error)
        if isinstance(error, SplineLLMError):  # before any request its message quotes none
            log_event("load_failed", logging.ERROR, code=error.code, reason=str(error))
        else:
            log_exception("load_failed", error)
        return
    state.catalog = catalog
    if state.lifecycle.draining:  # the end came first and found no engines to stop
        stop_engines(app, 0)
        return
    # A full collection walks all that torch and transformers have made, with the interpreter locked
    # for a tenth of a second or more. None of it is garbage, so from now on it is not looked at.
    gc.collect()
    gc.freeze()
    state.lifecycle.loaded()
    log_event("ready", models=list(catalog.names), classifiers=sorted(catalog.classifiers))
