"""Copies of a model that is being watched: they are models of their own."""

from __future__ import annotations

import copy
import io
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from splinellm import attach
from tests.architectures import case_model
from tests.live.models import ALL, causal_lm, check, extractor_of, left_padded, options, with_head
from tests.tiny import random_prompts

OTHER = torch.tensor(random_prompts(7))


@pytest.mark.parametrize("name", ["llama", "mixtral", "opt", "phi3"])
def test_what_a_copy_reads_is_not_recorded(name: str) -> None:
    model = with_head(case_model(name))
    with torch.no_grad(), attach(model, features=ALL) as recorder:
        model(**left_padded())
        before = recorder.table.values
        theirs: Any = copy.deepcopy(model)
        output = theirs(OTHER).logits
        theirs.generate(OTHER, **options())
        assert (recorder.table.values == before).all()
        assert torch.equal(output, model(OTHER).logits)
        with attach(theirs, features=ALL) as other:  # nobody watches it yet
            theirs(**left_padded())
            assert (other.table.values == before).all()
        assert recorder.n_tokens.tolist() == [7]
    with torch.no_grad(), attach(theirs, features=ALL) as other:
        theirs(**left_padded())
    assert (other.table.values == before).all()


def test_a_generation_that_goes_on_while_a_copy_generates() -> None:
    model = causal_lm()
    with torch.no_grad(), attach(model, features=ALL) as recorder:
        cache = model(**left_padded()).past_key_values
        copy.deepcopy(model).generate(**left_padded(), **options(max_new_tokens=3))
        ones = torch.ones(3, 1, dtype=torch.long)
        mask = torch.cat([left_padded()["attention_mask"], ones], dim=1)
        model(input_ids=7 * ones, attention_mask=mask, past_key_values=cache)
    texts = [[*prompt, 7] for prompt in random_prompts(5, 9, 3)]
    check(recorder.table, extractor_of(model), texts)


def test_an_average_of_weights_that_is_kept_while_the_model_trains() -> None:
    model = causal_lm().train()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    inputs = left_padded()
    with attach(model, features="spline") as recorder:
        average = AveragedModel(model)
        for _ in range(2):
            optimiser.zero_grad()
            model(**inputs, labels=inputs["input_ids"]).loss.backward()
            optimiser.step()
            average.update_parameters(model)
        last = recorder.table.values
        with torch.no_grad(), attach(average, features="spline") as other:
            average(**inputs)
        assert (recorder.table.values == last).all()
    expected = extractor_of(average.module, "spline").extract(random_prompts(5, 9, 3))
    np.testing.assert_allclose(other.table.values, expected.values, rtol=2e-3, atol=2e-6)


def test_parts_can_be_pickled_within_a_block() -> None:
    model = causal_lm()
    with torch.no_grad(), attach(model, features="spline"):
        model(OTHER)
        file = io.BytesIO()
        torch.save(model.model.layers[1].mlp, file)
        file.seek(0)
        mlp = torch.load(file, weights_only=False)
    x = torch.randn(1, 4, model.config.hidden_size)
    with torch.no_grad():
        assert torch.equal(mlp(x), model.model.layers[1].mlp(x))
