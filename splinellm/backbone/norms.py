"""Norms of a gate's hyperplanes: of the map that it computes, as the weights are now.

What may be kept, and for how long. Weights change without notice: in place, through ``.data``
(which no version counter shows), by an optimiser, by another adapter. So norms are made anew in
every forward pass that begins a text; of dense weights that is one pass over the gate, less than
the model itself needs for one token of it. In passes that go on with a text, such as the steps of
``generate``, they are kept for as long as the *state* of the module is the same: of every tensor
its address, version counter (those of inference mode have none, and nothing is kept), shape, dtype
and device, and of every part of the module its class,
mode, hooks and settings (an adapter's scale, which adapters are active, merged or disabled). A
change between two tokens of one text that goes through ``.data`` is therefore not seen before the
next text begins.

Norms of a module that had to be asked cost as much as a prompt of D tokens. They are kept beyond
the beginning of a text if, besides, the answer to one fixed random vector is the same to the last
bit.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from accelerate.utils import align_module_device
from torch import Tensor, nn

from splinellm.backbone.calls import others_hooks, seen_call
from splinellm.backbone.linear_maps import AskedMap, dense_rows, unmoved
from splinellm.errors import ModelLoadError
from splinellm.geometry import row_norms


def hyperplane_norms(gate: nn.Module, n_inputs: int, device: torch.device) -> Tensor:
    """Norms of the rows of the linear map that a module computes, as it is now.

    A dense weight is read where it is certain that it is the map, also one that accelerate keeps
    elsewhere. Any other linear map (a quantised weight that is packed in blocks of its own, an
    adapter) is asked instead, see :class:`splinellm.backbone.linear_maps.AskedMap`.

    Parameters
    ----------
    gate : Module
        A linear map from D inputs to K outputs.
    n_inputs : int
        D.
    device : torch.device
        Where unit vectors are made, if they are needed.

    Returns
    -------
    Tensor, shape (K,), float32
        On the weight's device.

    Raises
    ------
    ModelLoadError
        The module does not answer like a linear map.
    ConfigurationError
        It does not compute one map, but another one in every call or for every row.
    """
    found = _dense_norms(gate, n_inputs)
    return _asked_norms(AskedMap(gate, n_inputs, device), gate) if found is None else found


@torch.no_grad()
def _dense_norms(gate: nn.Module, n_inputs: int) -> Tensor | None:
    with align_module_device(gate), unmoved(gate):
        rows = dense_rows(gate, n_inputs)
        return None if rows is None else row_norms(rows)


def _asked_norms(asked: AskedMap, gate: nn.Module) -> Tensor:
    try:
        return asked.norms()
    except (RuntimeError, TypeError, ValueError) as error:
        hint = "load the model dequantised"
        if any(not part.numel() for part in gate.parameters()):
            hint = "gather the sharded weights first, as FSDP.summon_full_params does"
        raise ModelLoadError(
            f"the norms of {type(gate).__name__} cannot be computed: {error}", hint=hint
        ) from error


@dataclass
class _Kept:
    norms: Tensor
    state: Hashable
    answer: Tensor | None  # of a module that was asked
    shows_edits: bool  # whether its state does
    is_due: bool = False  # whether a text has begun since


# By module, weakly: a dropped model is freed, and a replaced module has no norms yet.
_kept: WeakKeyDictionary[nn.Module, _Kept] = WeakKeyDictionary()


def expect_changes(gate: nn.Module) -> None:
    """Say that a text begins: weights may have changed in ways that their state does not show."""
    if (kept := _kept.get(gate)) is not None:
        kept.is_due = True
    _experts.pop(gate, None)


def current_norms(gate: nn.Module, n_inputs: int, device: Callable[[], torch.device]) -> Tensor:
    """Do as :func:`hyperplane_norms`, but keep what cannot have changed; see the module."""
    state = state_of(gate)
    kept = _kept.get(gate)
    if kept is not None and (state is None or kept.state != state):
        kept = None
    if kept is not None and kept.shows_edits and not kept.is_due:
        return kept.norms
    answer = None
    norms = _dense_norms(gate, n_inputs)
    if norms is None:
        asked = AskedMap(gate, n_inputs, device())
        answer = _unless_unfit(asked.answer)
        if kept is not None and _are_same(answer, kept.answer):
            kept.is_due = False
            return kept.norms
        norms = _asked_norms(asked, gate)
    if state is not None and (seen_call(gate) or not others_hooks(gate)):  # else: who knows
        _kept[gate] = _Kept(norms, state, answer, _counts_edits(gate))
    return norms


def _counts_edits(gate: nn.Module) -> bool:
    """Tensors that were made in inference mode have no version counter."""
    return not any(tensor.is_inference() for tensor in (*gate.parameters(), *gate.buffers()))


def _unless_unfit(ask: Callable[[], Tensor]) -> Tensor | None:
    try:
        return ask()
    except (RuntimeError, TypeError, ValueError):
        return None  # the reason is told when the norms are asked for


def _are_same(answer: Tensor | None, earlier: Tensor | None) -> bool:
    if answer is None or earlier is None or answer.device != earlier.device:
        return False
    return torch.equal(answer, earlier)


_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
_NO_SETTINGS = _OF_EVERY_MODULE | {"_output_capturing_hooks_installed"}  # of transformers
_N_OF_LINEAR = len(vars(nn.Linear(1, 1, device="meta")))


def state_of(module: nn.Module) -> tuple[Hashable, Hashable] | None:
    """What shows, at little cost, that a module was changed; None if it cannot be told.

    Returns
    -------
    settings : hashable
        Of every part its class, mode, attributes and hooks.
    tensors : hashable
        Of every parameter and buffer what :func:`_tensor_state` says.
    """
    settings: list[Hashable] = []
    tensors: list[Hashable] = []
    try:
        own = vars(module)
        if type(module) is nn.Linear and len(own) == _N_OF_LINEAR:  # this is asked at every token
            both = (*own["_parameters"].values(), *own["_buffers"].values())
            return (module.training, *others_hooks(module)), tuple(map(_tensor_state, both))
        for part in module.modules():
            own = vars(part)
            settings.append((id(part), type(part), part.training, *others_hooks(part)))
            for group in ("_parameters", "_buffers"):
                tensors.extend((name, _tensor_state(it)) for name, it in own[group].items())
            if len(own) > len(_OF_EVERY_MODULE):
                settings.extend(
                    (name, _frozen(it)) for name, it in own.items() if name not in _NO_SETTINGS
                )
    except (RuntimeError, NotImplementedError):
        return None
    return tuple(settings), tuple(tensors)


def _tensor_state(tensor: Tensor | None) -> Hashable:
    if tensor is None:
        return None
    if hasattr(tensor, "full_tensor"):
        raise NotImplementedError  # sharded: what of it changes is elsewhere
    version = 0 if tensor.is_inference() else tensor._version  # noqa: SLF001 - torch has no other
    return tensor.data_ptr(), version, tensor.shape, tensor.dtype, tensor.device


def _frozen(value: Any) -> Hashable:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, dict):
        return tuple((str(key), _frozen(it)) for key, it in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return tuple(map(_frozen, value))
    if isinstance(value, Tensor):
        raise NotImplementedError  # no parameter: made by a hook, perhaps anew in every pass
    return id(value)


KeptOfExperts = dict[int, Tensor]
"""Norms (K_expert,) of the experts that were met since the weights last could have changed."""


@dataclass
class _Experts:
    norms: KeptOfExperts
    state: Hashable


_experts: WeakKeyDictionary[nn.Module, _Experts] = WeakKeyDictionary()


def kept_of_experts(experts: nn.Module, stacked: Tensor) -> KeptOfExperts:
    """Norms of a mixture's experts that hold for `stacked`; further ones may be put in."""
    state = None
    # Any other tensor was made for this pass alone; one of inference mode counts no edits.
    if isinstance(stacked, nn.Parameter) and not stacked.is_inference():
        state = _tensor_state(stacked)
    kept = _experts.get(experts)
    if kept is None or state is None or kept.state != state:
        kept = _Experts({}, state)
        if state is not None:
            _experts[experts] = kept
    return kept.norms
