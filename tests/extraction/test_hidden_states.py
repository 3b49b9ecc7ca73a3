from __future__ import annotations

import numpy as np
import pytest
import torch

from splinellm import SplineExtractor
from splinellm.backbone.loading import Backbone
from splinellm.errors import PromptError
from splinellm.extraction.hidden_states import mean_hidden_states
from tests.tiny import random_prompts

PROMPTS = random_prompts(1, 9, 4, 20, 4)


@pytest.mark.parametrize("budget", [1, 30, 4096])
def test_mean_is_over_real_tokens_and_in_order(mistral: Backbone, budget: int) -> None:
    with torch.inference_mode():
        expected = [mistral.model(torch.tensor([p])).last_hidden_state[0].mean(0) for p in PROMPTS]
    counts: list[tuple[int, int]] = []
    extractor = SplineExtractor(mistral, batch_tokens=budget)
    found = mean_hidden_states(extractor, PROMPTS, on_progress=lambda *c: counts.append(c))
    np.testing.assert_allclose(found, np.stack(expected), atol=1e-5)
    assert found.dtype == np.float32
    assert tuple(map(sum, zip(*counts, strict=True))) == (5, 38)


def test_bad_prompt_is_named(llama: Backbone) -> None:
    with pytest.raises(PromptError, match="prompt 1"):
        mean_hidden_states(SplineExtractor(llama), ["a", ""])
