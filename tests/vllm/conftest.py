"""A tiny model in an engine of vLLM; where vLLM is missing, what needs it is skipped by name."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

if find_spec("vllm") is not None:  # elsewhere these tests are skipped, and others are not disturbed
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

import pytest

from tests.vllm.models import save_tiny


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let vLLM warn of what its own code does; what splinellm does is tested without it, too."""
    for item in items:
        if "tests/vllm/" in item.nodeid:
            item.add_marker(pytest.mark.filterwarnings("default"))


SETTINGS: dict[str, Any] = {
    "dtype": "float32",
    "enforce_eager": True,
    "enable_prefix_caching": False,
    "max_model_len": 256,
    "max_num_seqs": 4,
    "max_num_batched_tokens": 64,
    "block_size": 32,
    "num_gpu_blocks_override": 16,  # 512 tokens: four long requests do not fit
    "disable_log_stats": True,
    "logits_processors": ["splinellm.vllm.guarding:GuardProcessor"],
}


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny random Llama and its tokenizer."""
    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def llm(tiny_folder: Path) -> Any:
    """The engine that all tests share: starting one takes a minute."""
    vllm = pytest.importorskip("vllm", reason="vllm is not installed: make vllm")
    return vllm.LLM(str(tiny_folder), **SETTINGS)
