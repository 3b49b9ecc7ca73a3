"""Adapters that are switched, merged or trained: every pass meets the hyperplanes of its moment."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from splinellm import attach
from splinellm.errors import ConfigurationError
from splinellm.live.conditions import DropoutWarning
from tests.backbone.adapted import (
    IDS,
    adapted,
    check,
    distance_mean,
    gate_of,
    inputs_of,
    lora,
    lora_rows,
    randomised,
    watched,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning"
)  # PEFT's


def test_adapters_switched_disabled_scaled_and_merged_within_a_block() -> None:
    model = adapted(lora(lora_alpha=4))
    model.add_adapter("other", lora(r=2, lora_alpha=5))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".other." in name:
                parameter.normal_(std=0.3, generator=torch.Generator().manual_seed(3))
    gate = gate_of(model)
    with attach(model, features="spline") as recorder:

        def read_and_check(**scales: float) -> None:
            with torch.no_grad():
                model(input_ids=IDS)
            check(model, lora_rows(gate, **scales), recorder.table)

        read_and_check(default=1.0)
        model.set_adapter("other")
        read_and_check(other=2.5)
        model.base_model.set_adapter(["default", "other"])
        read_and_check(default=1.0, other=2.5)
        gate.scaling["other"] = 0.5
        read_and_check(default=1.0, other=0.5)
        with model.disable_adapter():
            read_and_check()
        gate.lora_B["default"].weight.data.mul_(-3)  # which bypasses version counters
        read_and_check(default=1.0, other=0.5)
        rows = lora_rows(gate, default=1.0, other=0.5)
        model.merge_adapter()
        read_and_check()
        np.testing.assert_allclose(lora_rows(gate), rows, rtol=1e-4, atol=1e-5)
        model.unmerge_adapter()
        read_and_check(default=1.0, other=0.5)


def test_adapter_switched_in_the_middle_of_a_text() -> None:
    # The key-value cache goes on; each token meets the hyperplanes that it was read with.
    model = adapted(lora())
    model.add_adapter("other", lora())
    randomised(model, 5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".other." in name:
                parameter.normal_(std=0.3, generator=torch.Generator().manual_seed(3))
    gate, token, nearest = gate_of(model), torch.tensor([[9], [8]]), []
    with torch.no_grad(), attach(model, features="spline") as recorder:
        cache = model(input_ids=IDS).past_key_values
        model.set_adapter("other")
        expected_cache = copy.deepcopy(cache)
        model(input_ids=token, past_key_values=cache)
        found = recorder.table
    model.set_adapter("default")
    x = inputs_of(gate, lambda: model(input_ids=IDS))
    nearest.append(x @ lora_rows(gate, default=2.0).T)
    model.set_adapter("other")
    x = inputs_of(gate, lambda: model(input_ids=token, past_key_values=expected_cache))
    nearest.append(x @ lora_rows(gate, other=2.0).T)
    before = np.abs(nearest[0]) / np.linalg.norm(lora_rows(gate, default=2.0), axis=1)
    after = np.abs(nearest[1]) / np.linalg.norm(lora_rows(gate, other=2.0), axis=1)
    tokens = np.column_stack([before.min(axis=1).reshape(2, -1), after.min(axis=1)])
    np.testing.assert_allclose(distance_mean(found), tokens.mean(axis=1), rtol=2e-4)


def test_dropout_in_training_mode_is_refused_only_if_a_distance_is_wanted() -> None:
    model = adapted(lora(lora_dropout=0.3)).train()
    refused = pytest.raises(ConfigurationError, match=r"another map in every call.*eval\(\)")
    with refused, pytest.warns(DropoutWarning):
        watched(model)
    with pytest.warns(DropoutWarning), attach(model, features="blocks") as recorder:
        model(input_ids=IDS)
    assert recorder.table.values.size
    model.eval()
    check(model, lora_rows(gate_of(model), default=2.0))
    without = adapted(lora()).train()
    check(without, lora_rows(gate_of(without), default=2.0))


def test_adapter_of_every_row_is_refused_only_if_a_distance_is_wanted() -> None:
    model = adapted(lora())
    inputs = {"input_ids": IDS, "adapter_names": ["default", "__base__"]}
    with pytest.raises(ConfigurationError, match=r"adapter_names.*set_adapter"):
        watched(model, **inputs)
    with torch.no_grad(), attach(model, features="sign_mean") as recorder:
        model(**inputs)
    assert recorder.table.values.size


def test_gradients_are_those_of_the_model_alone() -> None:
    model = adapted(lora())

    def step() -> list[Tensor]:
        model.zero_grad()
        model(input_ids=IDS, labels=IDS).loss.backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    plain = step()
    with attach(model, features="spline") as recorder:
        found = step()
    assert all(map(torch.equal, plain, found))
    check(model, lora_rows(gate_of(model), default=2.0), recorder.table)


def test_random_numbers_and_output_stay_as_they_are() -> None:
    model = adapted(lora())
    torch.manual_seed(0)
    plain = [model(input_ids=IDS).logits, torch.rand(3)]
    torch.manual_seed(0)
    with attach(model, features="spline"):
        found = [model(input_ids=IDS).logits, torch.rand(3)]
    assert all(map(torch.equal, plain, found))


def test_norms_are_asked_for_once_while_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    model = adapted(lora())
    table = watched(model)
    monkeypatch.setattr("splinellm.backbone.norms._asked_norms", None)
    assert (watched(model).values == table.values).all()
