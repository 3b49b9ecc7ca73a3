"""Engines that hide their gates are refused, with the flag to set."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from splinellm.errors import ConfigurationError
from splinellm.vllm.online import Online
from splinellm.vllm.parts import require_visible

pytest.importorskip("vllm", reason="vllm is not installed: make vllm")

RIGHT: dict[str, Any] = {
    "dtype": "float32",
    "enforce_eager": True,
    "enable_prefix_caching": False,
    "max_model_len": 256,
    "worker_extension_cls": "splinellm.vllm.WorkerExtension",
}


def config_of(folder: Path, **settings: Any) -> Any:
    """vLLM's configuration for these flags."""
    from vllm.engine.arg_utils import EngineArgs

    return EngineArgs(model=str(folder), **RIGHT | settings).create_engine_config()


def test_right_flags(tiny_folder: Path) -> None:
    require_visible(config_of(tiny_folder))


@pytest.mark.parametrize(
    ("settings", "flag"),
    [
        ({"enforce_eager": False}, "--enforce-eager"),
        ({"enable_prefix_caching": True}, "--no-enable-prefix-caching"),
        ({"tensor_parallel_size": 2}, "--tensor-parallel-size 1"),
        ({"pipeline_parallel_size": 2}, "--pipeline-parallel-size 1"),
        ({"enable_lora": True}, "--enable-lora"),
    ],
)
def test_wrong_flags(tiny_folder: Path, settings: dict[str, Any], flag: str) -> None:
    config = config_of(tiny_folder, **settings)
    with pytest.raises(ConfigurationError, match="settings that hide the gates") as refused:
        require_visible(config)
    assert flag in str(refused.value)
    with pytest.raises(ConfigurationError, match=flag):
        start(config)


def test_data_parallel_engines(tiny_folder: Path) -> None:
    config = config_of(tiny_folder)
    config.parallel_config.data_parallel_size = 2
    with pytest.raises(ConfigurationError, match="--data-parallel-size 1"):
        require_visible(config)


def start(config: Any) -> None:
    """What the server does before it answers; the engine is never reached."""
    asyncio.run(Online.start(SimpleNamespace(vllm_config=config)))


def test_servers_without_extension_or_guard(tiny_folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="--worker-extension-cls splinellm"):
        start(config_of(tiny_folder, worker_extension_cls=""))
    config = config_of(tiny_folder, additional_config={"splinellm": {"guard": True}})
    with pytest.raises(ConfigurationError, match="--logits-processors splinellm"):
        start(config)
