"""What all tests share: one thread, Ctrl-C at work, and models."""

from __future__ import annotations

import os
import signal

# Before anything brings in OpenMP: on a machine that has other things to do, two threads wait for
# each other. The tiny models become 20 times slower, the default model 5 times. The tests' own
# processes inherit it; pytest-xdist gives every core a worker.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Iterator

import pytest
import torch

from splinellm import SplineExtractor
from splinellm.backbone.loading import Backbone
from tests.tiny import tiny_backbone

torch.set_num_threads(1)

# A shell starts background jobs with Ctrl-C ignored, and children inherit that: the tests of Ctrl-C
# would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def llama() -> Backbone:
    """A tiny Llama, shared: tests that change a model make their own."""
    return tiny_backbone("llama")


@pytest.fixture(scope="session")
def mistral() -> Backbone:
    """A tiny Mistral with a sliding window of 6, shared."""
    return tiny_backbone("mistral")


@pytest.fixture(scope="session")
def default_extractor() -> SplineExtractor:
    """The default model as a user gets it; for tests marked `model`."""
    return SplineExtractor.from_pretrained("smollm2-135m", features="paper,blocks")


@pytest.fixture(scope="session")
def minilm() -> SplineExtractor:
    """The built-in encoder as a user gets it; for tests marked `model`."""
    return SplineExtractor.from_pretrained("minilm-l6", features="paper,blocks")


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name what is another one in every process: workers must agree on the tests' names."""
    if isinstance(val, bytes) and val.startswith(b"\x1f\x8b"):
        return "gzipped"  # holds the time
    if isinstance(val, (set, frozenset, Iterator)):
        return type(val).__name__
    return None
