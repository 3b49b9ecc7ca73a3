"""What all tests share: one thread, Ctrl-C at work, and models."""

from __future__ import annotations

import signal

import pytest
import torch

from splinellm import SplineExtractor
from splinellm.backbone.loading import Backbone
from tests.tiny import tiny_backbone

# On a machine that has other things to do, two threads wait for each other: the tiny models become
# 20 times slower, the default model 5 times.
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
