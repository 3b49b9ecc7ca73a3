from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from splinellm import SplineExtractor
from splinellm.backbone.loading import Backbone
from tests.tiny import tiny_backbone

N_THREADS = torch.get_num_threads()
# The tiny models' products are too small to share: on a busy machine threads make them 20x slower.
torch.set_num_threads(1)


@pytest.fixture
def _all_threads() -> Iterator[None]:
    """For tests with the default model."""
    torch.set_num_threads(N_THREADS)
    yield
    torch.set_num_threads(1)


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
