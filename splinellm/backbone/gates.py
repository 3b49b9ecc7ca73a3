"""How a layer shows the pre-activations of its hyperplanes, and how long their normals are.

The hyperplanes of a layer are the rows of the first linear map of its MLP. Where that map also
holds the rows of the up projection, only the gate's half counts. In a mixture of experts the
hyperplanes of a token are those of the experts that read it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from accelerate.utils import align_module_device
from torch import Tensor, nn

from splinellm.backbone.calls import OwnHook, Seen
from splinellm.backbone.hooks import Hook
from splinellm.backbone.linear_maps import is_dense, n_outputs, rows_and_bias, whole
from splinellm.backbone.norms import (
    KeptOfExperts,
    current_norms,
    expect_changes,
    hyperplane_norms,
    kept_of_experts,
)
from splinellm.errors import ModelLoadError
from splinellm.geometry import row_norms

See = Callable[..., None]
"""Receives pre-activations, shape (B, T, K), and if asked for the gate's inputs, (B, T, D)."""

Planes = tuple[Tensor, Tensor, Tensor | None]
"""Inputs x (N, D) and the rows (K, D) and biases (K,) of the hyperplanes of these tokens."""


class Gate(Protocol):
    """The hyperplanes of one layer."""

    @property
    def n_hyperplanes(self) -> int:
        """Hyperplanes K of a token."""

    @property
    def entrance(self) -> nn.Module:
        """Module whose arguments :meth:`planes` takes."""

    def watch(self, see: See, *, shows_inputs: bool = False) -> Callable[[], None]:
        """Call `see` in every forward pass; returns what ends it."""

    def norms(self, n_inputs: int, device: torch.device) -> Tensor:
        """Norms by which `see`'s values are divided, shape (K,), float32, computed anew."""

    def current_norms(self, n_inputs: int, device: Callable[[], torch.device]) -> Tensor:
        """Norms of the pass that is running; kept where they cannot have changed."""

    def expect_changes(self) -> None:
        """Say that a text begins, before which the weights may have been changed."""

    def planes(self, *args: Any) -> Iterator[Planes]:
        """What the entrance's arguments meet, for verification; tokens in order."""


@dataclass(frozen=True)
class LinearGate:
    """One linear map for all tokens.

    Parameters
    ----------
    layer : Module
        Decoder layer.
    entrance : Module
        The linear map.
    is_fused : bool
        Whether the rows of the up projection follow those of the gate.
    is_flat : bool
        Whether the layer hands it all tokens of a batch in one row, (B T, D).
    """

    layer: nn.Module
    entrance: nn.Module
    is_fused: bool = False
    is_flat: bool = False

    @property
    def n_hyperplanes(self) -> int:
        """Hyperplanes K."""
        return n_outputs(self.entrance) // (2 if self.is_fused else 1)

    def watch(self, see: See, *, shows_inputs: bool = False) -> Callable[[], None]:
        """Call `see` with h, or with h and x, in every forward pass; returns what ends it."""

        def attach(see: See) -> Callable[[], None]:
            return self._hook(see, shows_inputs=shows_inputs)

        return _watch_shaped(self.layer, see, attach) if self.is_flat else attach(see)

    def _hook(self, see: See, *, shows_inputs: bool) -> Callable[[], None]:
        n_gates = self.n_hyperplanes if self.is_fused else None
        hook = _GateHook(see, n_gates, shows_inputs=shows_inputs)
        return self.entrance.register_forward_hook(hook, with_kwargs=True).remove

    def norms(self, n_inputs: int, device: torch.device) -> Tensor:
        """Norms of the rows, shape (K,), float32, computed anew."""
        return hyperplane_norms(self.entrance, n_inputs, device)[: self.n_hyperplanes]

    def current_norms(self, n_inputs: int, device: Callable[[], torch.device]) -> Tensor:
        """Norms of the rows in the pass that is running, shape (K,), float32."""
        norms = current_norms(self.entrance, n_inputs, device)
        return norms[: self.n_hyperplanes] if self.is_fused else norms

    def expect_changes(self) -> None:
        """Say that a text begins, before which the weights may have been changed."""
        expect_changes(self.entrance)

    def planes(self, *args: Any) -> Iterator[Planes]:
        """All tokens meet the same hyperplanes."""
        x = args[0].flatten(0, -2)
        rows, bias = rows_and_bias(self.entrance, x.shape[-1], x.device)
        yield x, rows[: self.n_hyperplanes], None if bias is None else bias[: self.n_hyperplanes]


class _GateHook(OwnHook):
    def __init__(self, see: See, n_gates: int | None, *, shows_inputs: bool) -> None:
        super().__init__()
        self._see, self._n_gates, self._shows_inputs = see, n_gates, shows_inputs

    def see(self, seen: Seen) -> None:
        """Show the gate's half of a fused map, or all of another."""
        h = seen.output if self._n_gates is None else seen.output[..., : self._n_gates]
        self._see(*((h, seen.input) if self._shows_inputs else (h,)))


@dataclass(frozen=True)
class ExpertsGate:
    """A linear map per expert; a token meets those of the experts that the router chose for it.

    K is the number of experts chosen times the size of one, and then the size of the shared expert,
    which reads every token. The chosen ones are ordered by their index, not by their weight: the
    order then depends on nothing but the choice, and rounding that swaps two close weights changes
    no sign block.

    Norms differ from token to token, so `see` is given h already divided by them: the sign is that
    of h, the absolute value is the distance, and :meth:`norms` are ones.

    Parameters
    ----------
    layer : Module
        Decoder layer.
    entrance : Module
        transformers' module of all experts, called with hidden states and the chosen indices; its
        ``gate_up_proj``, shape (experts, 2 K_expert, D), starts with the gates.
    shared : Module, optional
        Gate projection of the expert that reads every token.
    """

    layer: nn.Module
    entrance: nn.Module
    shared: nn.Module | None = None

    @property
    def n_hyperplanes(self) -> int:
        """Hyperplanes K of a token."""
        n_chosen = int(self.entrance.config.num_experts_per_tok)  # type: ignore[union-attr, arg-type]
        n_shared = 0 if self.shared is None else n_outputs(self.shared)
        return n_chosen * (self._stacked().shape[1] // 2) + n_shared

    def watch(self, see: See, *, shows_inputs: bool = False) -> Callable[[], None]:
        """Call `see` with signed distances, or with those and x; returns what ends it."""
        self._require_dense(self._stacked())

        def attach(see: See) -> Callable[[], None]:
            def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                hidden, chosen = (*args, *kwargs.values())[:2]
                with align_module_device(self.entrance):
                    # Read as the pass itself will: what an adapter makes of it is made once, and
                    # kept with its graph for the pass.
                    stacked = self._stacked()
                    found = self._signed_distances(hidden, chosen.sort(dim=-1).values, stacked)
                    see(*((found, hidden) if shows_inputs else (found,)))

            return self.entrance.register_forward_pre_hook(Hook(hook), with_kwargs=True).remove

        return _watch_shaped(self.layer, see, attach)

    def norms(self, n_inputs: int, device: torch.device) -> Tensor:  # noqa: ARG002 - as in LinearGate
        """Ones, shape (K,): what is seen has been divided by the norms of the token's experts."""
        return torch.ones(self.n_hyperplanes, device=device)

    def current_norms(self, n_inputs: int, device: Callable[[], torch.device]) -> Tensor:
        """Ones, shape (K,), as :meth:`norms`."""
        return self.norms(n_inputs, device())

    def expect_changes(self) -> None:
        """Say that a text begins, before which the weights may have been changed."""
        expect_changes(self.entrance)
        if self.shared is not None:
            expect_changes(self.shared)

    def planes(self, *args: Any) -> Iterator[Planes]:
        """Each token meets hyperplanes of its own."""
        hidden, chosen = args[:2]
        shared: tuple[Tensor, Tensor | None] | None = None
        if self.shared is not None:
            shared = rows_and_bias(self.shared, hidden.shape[-1], hidden.device)
        with align_module_device(self.entrance):
            stacked = self._stacked().detach()
            size = stacked.shape[1] // 2
            for x, indices in zip(hidden, chosen, strict=True):
                rows = [stacked[index, :size] for index in sorted(indices.tolist())]
                biases = [x.new_zeros(size) for _ in rows]
                if shared is not None:
                    rows.append(shared[0])
                    bias = shared[1]
                    biases.append(x.new_zeros(len(shared[0])) if bias is None else bias)
                yield x[None], torch.cat(rows), torch.cat(biases)

    def _stacked(self) -> Tensor:
        """Rows of all experts, (E, 2 K_expert, D), as they are now: parametrised ones, too."""
        stacked: Tensor = whole(self.entrance.gate_up_proj)
        return stacked

    def _require_dense(self, stacked: Tensor) -> None:
        if not is_dense(stacked) and not stacked.is_meta:  # offloaded: seen when they are there
            raise ModelLoadError(
                f"the norms of {type(self.entrance).__name__} cannot be computed: its weights are "
                "packed",
                hint="load the model dequantised",
            )

    @torch.no_grad()
    def _signed_distances(self, hidden: Tensor, chosen: Tensor, stacked: Tensor) -> Tensor:
        """Compute h / norm of hidden states (N, D) and indices (N, E_chosen): (N, K), float32."""
        self._require_dense(stacked)
        kept: KeptOfExperts = kept_of_experts(self.entrance, stacked)
        size = stacked.shape[1] // 2
        found = torch.empty(*chosen.shape, size, device=hidden.device)
        for expert in chosen.unique().tolist():
            token, place = torch.where(chosen == expert)
            rows = stacked[expert, :size]
            if expert not in kept:
                kept[expert] = row_norms(rows)
            found[token, place] = _signed_distance(F.linear(hidden[token], rows), kept[expert])
        found = found.flatten(1)
        if self.shared is not None:
            norms = current_norms(self.shared, hidden.shape[-1], lambda: hidden.device)
            # Its `forward`, not itself: hooks on it, ours or others', must not see it called twice.
            h = self.shared.forward(hidden)
            found = torch.cat([found, _signed_distance(h, norms)], dim=-1)
        return found


def _signed_distance(h: Tensor, norms: Tensor) -> Tensor:
    norms = norms.to(h.device)
    far = torch.full_like(h, torch.inf, dtype=torch.float32)
    # A row of norm 0 is no hyperplane: it keeps its sign and is nobody's nearest.
    return (h.float() / norms).where(norms > 0, far.where(h > 0, -far).where(~h.isnan(), h.float()))


def _watch_shaped(
    layer: nn.Module, see: See, attach: Callable[[See], Callable[[], None]]
) -> Callable[[], None]:
    """Give what is seen of a flat batch (B T, K) the shape (B, T, K) of the layer's input."""
    shape: list[int] = []

    def remember(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        shape[:] = hidden.shape[:-1]

    def shaped(*shown: Tensor) -> None:
        # Without a shape, it is another layer that calls a module which both of them have.
        see(*(values.reshape(*shape, -1) if shape else values for values in shown))
        shape.clear()

    with ExitStack() as stack:
        stack.callback(layer.register_forward_pre_hook(Hook(remember), with_kwargs=True).remove)
        stack.callback(attach(shaped))
        return stack.pop_all().close
