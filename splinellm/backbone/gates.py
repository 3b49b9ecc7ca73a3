"""How a decoder layer shows the pre-activations of its hyperplanes, and how long their normals are.

The hyperplanes of a layer are the rows of the first linear map of its MLP. Where that map also
holds the rows of the up projection, only the gate's half counts. In a mixture of experts the
hyperplanes of a token are those of the experts that read it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from accelerate.utils import align_module_device
from torch import Tensor, nn

from splinellm.backbone.norms import dense_rows, hyperplane_norms
from splinellm.errors import ConfigurationError, ModelLoadError
from splinellm.geometry import row_norms

See = Callable[[Tensor], None]
"""Receives pre-activations, shape (B, T, K)."""

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

    def watch(self, see: See) -> Callable[[], None]:
        """Call `see` in every forward pass; returns what ends it."""

    def norms(self, n_inputs: int, device: torch.device) -> Tensor:
        """Norms by which `see`'s values are divided, shape (K,), float32."""

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
        n_rows = getattr(self.entrance, "out_features", None) or self.entrance.nf  # Conv1D's name
        return int(n_rows) // (2 if self.is_fused else 1)  # type: ignore[arg-type]

    def watch(self, see: See) -> Callable[[], None]:
        """Call `see` with h in every forward pass; returns what ends it."""
        if self.is_flat:
            return _watch_shaped(self.layer, see, self._hook)
        return self._hook(see)

    def _hook(self, see: See) -> Callable[[], None]:
        def hook(_module: nn.Module, _args: tuple[Any, ...], output: Tensor) -> None:
            see(output[..., : self.n_hyperplanes] if self.is_fused else output)

        return self.entrance.register_forward_hook(hook).remove

    def norms(self, n_inputs: int, device: torch.device) -> Tensor:
        """Norms of the rows, shape (K,), float32."""
        return hyperplane_norms(self.entrance, n_inputs, device)[: self.n_hyperplanes]

    def planes(self, *args: Any) -> Iterator[Planes]:
        """All tokens meet the same hyperplanes."""
        x = args[0].flatten(0, -2)
        with align_module_device(self.entrance):
            rows, bias = _rows_and_bias(self.entrance, x.shape[-1])
        yield x, rows[: self.n_hyperplanes], None if bias is None else bias[: self.n_hyperplanes]


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
        n_shared = 0 if self.shared is None else int(self.shared.out_features)  # type: ignore[arg-type]
        return n_chosen * self._size + n_shared

    @property
    def _size(self) -> int:
        return int(self.entrance.get_parameter("gate_up_proj").shape[1]) // 2

    def watch(self, see: See) -> Callable[[], None]:
        """Call `see` with signed distances in every forward pass; returns what ends it."""
        norms = self._expert_norms()

        def attach(see: See) -> Callable[[], None]:
            def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                hidden, chosen = (*args, *kwargs.values())[:2]
                see(self._signed_distances(hidden, chosen.sort(dim=-1).values, norms))

            return self.entrance.register_forward_pre_hook(hook, with_kwargs=True).remove

        return _watch_shaped(self.layer, see, attach)

    def norms(self, n_inputs: int, device: torch.device) -> Tensor:  # noqa: ARG002 - as in LinearGate
        """Ones, shape (K,): what is seen has been divided by the norms of the token's experts."""
        self._expert_norms()
        return torch.ones(self.n_hyperplanes, device=device)

    def planes(self, *args: Any) -> Iterator[Planes]:
        """Each token meets hyperplanes of its own."""
        hidden, chosen = args[:2]
        with align_module_device(self.entrance):
            stacked = self.entrance.get_parameter("gate_up_proj").detach()
            for x, indices in zip(hidden, chosen, strict=True):
                rows = [stacked[index, : self._size] for index in sorted(indices.tolist())]
                biases = [x.new_zeros(self._size) for _ in rows]
                if self.shared is not None:
                    with align_module_device(self.shared):
                        shared, bias = _rows_and_bias(self.shared, x.shape[-1])
                    rows.append(shared)
                    biases.append(x.new_zeros(len(shared)) if bias is None else bias)
                yield x[None], torch.cat(rows), torch.cat(biases)

    def _expert_norms(self) -> tuple[Tensor, Tensor | None]:
        """Norms of all experts (E, K_expert) and of the shared one, computed once."""
        if self.entrance not in _expert_norms:
            with align_module_device(self.entrance):
                stacked = self.entrance.get_parameter("gate_up_proj").detach()
                if not stacked.is_floating_point() or stacked.element_size() == 1:
                    raise ModelLoadError(
                        f"the norms of {type(self.entrance).__name__} cannot be computed: its "
                        "weights are packed",
                        hint="load the model dequantised",
                    )
                norms = torch.stack([row_norms(rows[: self._size]) for rows in stacked])
            shared = None
            if self.shared is not None:
                shared = hyperplane_norms(self.shared, stacked.shape[-1], norms.device)
            _expert_norms[self.entrance] = norms, shared
        return _expert_norms[self.entrance]

    @torch.no_grad()
    def _signed_distances(
        self, hidden: Tensor, chosen: Tensor, norms: tuple[Tensor, Tensor | None]
    ) -> Tensor:
        """Compute h / norm of hidden states (N, D) and indices (N, E_chosen): (N, K), float32."""
        expert_norms, shared_norms = norms
        found = torch.empty(*chosen.shape, self._size, device=hidden.device)
        with align_module_device(self.entrance):
            stacked = self.entrance.get_parameter("gate_up_proj")
            for expert in chosen.unique().tolist():
                token, place = torch.where(chosen == expert)
                h = F.linear(hidden[token], stacked[expert, : self._size])
                found[token, place] = _signed_distance(h, expert_norms[expert])
        found = found.flatten(1)
        if self.shared is not None and shared_norms is not None:
            # Its `forward`, not itself: hooks on it, ours or others', must not see it called twice.
            h = self.shared.forward(hidden)
            found = torch.cat([found, _signed_distance(h, shared_norms)], dim=-1)
        return found


# By module, so that the norms live as long as the weights. Weak, so that a dropped model is freed.
_expert_norms: WeakKeyDictionary[nn.Module, tuple[Tensor, Tensor | None]] = WeakKeyDictionary()


def _signed_distance(h: Tensor, norms: Tensor) -> Tensor:
    norms = norms.to(h.device)
    far = torch.full_like(h, torch.inf, dtype=torch.float32)
    # A row of norm 0 is no hyperplane: it keeps its sign and is nobody's nearest.
    return (h.float() / norms).where(norms > 0, far.where(h > 0, -far).where(~h.isnan(), h.float()))


def _rows_and_bias(linear: nn.Module, n_inputs: int) -> tuple[Tensor, Tensor | None]:
    rows = dense_rows(linear, n_inputs)
    if rows is None:
        raise ConfigurationError(
            f"the weights of {type(linear).__name__} are packed and cannot be verified",
            hint="load the model dequantised",
        )
    bias = getattr(linear, "bias", None)
    return rows.detach(), None if bias is None else bias.detach()


def _watch_shaped(
    layer: nn.Module, see: See, attach: Callable[[See], Callable[[], None]]
) -> Callable[[], None]:
    """Give values of a flat batch (B T, K) the shape (B, T, K) of the layer's input."""
    shape: list[int] = []

    def remember(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = args[0] if args else kwargs["hidden_states"]
        shape[:] = hidden.shape[:-1]

    with ExitStack() as stack:
        stack.callback(layer.register_forward_pre_hook(remember, with_kwargs=True).remove)
        stack.callback(attach(lambda values: see(values.reshape(*shape, -1))))
        return stack.pop_all().close
