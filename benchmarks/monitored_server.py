"""The service, with a watch on its event loop and its memory, for benchmarks/service.py.

Run with ``python -P``: the folder of this file has a module of the name of the package.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import torch
import uvicorn
from starlette.responses import JSONResponse

from service.app import create_app
from service.models import ModelCatalog, ServedModel, load_models, warm_up
from service.server import KEEP_ALIVE_S
from service.settings import Settings

sys.path.insert(0, str(Path(__file__).parent.parent))  # the tiny model is one of the tests'

TICK_S = 0.002
TINY = "tiny"


class LoopWatch:
    """Measures by how much the event loop is late."""

    def __init__(self) -> None:
        self.late_s: list[float] = []

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            start = time.perf_counter()
            await asyncio.sleep(TICK_S)
            self.late_s.append(time.perf_counter() - start - TICK_S)

    def report(self) -> dict[str, float]:
        """What happened since the last report."""
        late, self.late_s = sorted(self.late_s), []
        return {
            "longest_block_ms": 1000 * late[-1] if late else 0.0,
            "p99_block_ms": 1000 * late[int(0.99 * len(late))] if late else 0.0,
            "rss_mb": psutil.Process().memory_info().rss / 2**20,
        }


def load_tiny(settings: Settings, listener: Any) -> ModelCatalog:
    """Load a random model of three layers."""
    from service.engine import EngineLimits
    from tests.tiny import tiny_backbone

    limits = EngineLimits(
        batch_wait_s=settings.batch_wait_ms / 1000, max_queue_inputs=settings.max_queue_inputs
    )
    model = ServedModel(TINY, tiny_backbone(), limits=limits, listener=listener, max_tokens=256)
    catalog = ModelCatalog([model], [])
    warm_up(catalog)
    return catalog


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int)
    parser.add_argument("--switch-interval-s", type=float)
    parser.add_argument("--settings", type=json.loads, default={})
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.switch_interval_s:
        sys.setswitchinterval(arguments.switch_interval_s)
    settings = Settings(**arguments.settings)
    app = create_app(settings, load=load_tiny if settings.model == (TINY,) else load_models)
    watch = LoopWatch()

    async def report(_: Any) -> JSONResponse:
        return JSONResponse(watch.report())

    app.router.add_route("/benchmark", report)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host="127.0.0.1",
            port=settings.port,
            log_config=None,
            backlog=4096,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
    )
    watching = asyncio.create_task(watch.run())
    await server.serve()
    watching.cancel()


if __name__ == "__main__":
    asyncio.run(main())
