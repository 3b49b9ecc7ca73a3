"""What the MLPs of a model read at each token of a prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import numpy as np
import torch
from torch import Tensor

from splinellm.backbone.attendance import Attendance, turns_of
from splinellm.backbone.eager import run_eagerly
from splinellm.backbone.loading import Backbone
from splinellm.errors import NonFiniteFeaturesError, NothingRecordedError


def read_layer_inputs(
    backbone: Backbone, ids: Sequence[int], layers: Sequence[int]
) -> dict[int, np.ndarray]:
    """Run one prompt; see :meth:`splinellm.extraction.SplineExtractor.layer_inputs`.

    Parameters
    ----------
    backbone : Backbone
        The model; its lock is held meanwhile.
    ids : sequence of int
        Token ids.
    layers : sequence of int
        Layers that are loaded.
    """
    architecture = backbone.architecture
    modules = architecture.decoder_layers(backbone.model)
    gates = {layer: architecture.gate_of(modules[layer]) for layer in layers}
    turns = turns_of({layer: gate.entrance for layer, gate in gates.items()}, modules)
    found: dict[int, np.ndarray] = {}
    attendance = Attendance()
    with backbone.reading(), ExitStack() as stack:
        stack.enter_context(run_eagerly(backbone.model))
        for layer, gate in gates.items():
            hear = attendance.expects("gate", layer, _keeper(found, layer), turns[layer])
            stack.callback(gate.watch(hear, shows_inputs=True))
        input_ids = torch.tensor([list(ids)], device=backbone.device)
        attendance.begin()
        backbone.model(input_ids=input_ids, **architecture.arguments(torch.ones_like(input_ids)))
        attendance.end()
    if (trouble := attendance.trouble()) is not None:
        raise NothingRecordedError(trouble)
    if not all(np.isfinite(x).all() for x in found.values()):
        raise NonFiniteFeaturesError("the forward pass overflowed", index=0)
    return {layer: found[layer] for layer in layers}


def _keeper(found: dict[int, np.ndarray], layer: int) -> Callable[[Tensor, Tensor], None]:
    def keep(_h: Tensor, x: Tensor) -> None:
        found[layer] = x.float().reshape(-1, x.shape[-1]).cpu().numpy().copy()

    return keep
