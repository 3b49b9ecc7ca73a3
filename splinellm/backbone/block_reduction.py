"""The statistics of prompts after every block of tokens, from the same single forward pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from splinellm import geometry
from splinellm.backbone.reduction import PromptReduction, PromptState
from splinellm.geometry import Attended, DimensionRule
from splinellm.schema import FeatureSchema


class BlockReduction(PromptReduction):
    """One row per prompt, and what must be known to go on from the end of each of its blocks.

    The hooks reduce blocks as if each were a prompt; what they give is then put together.

    Parameters
    ----------
    schema, norms, rule
        See :class:`splinellm.backbone.reduction.Reduction`.
    size : int
        Tokens of a block.
    """

    def __init__(
        self,
        schema: FeatureSchema,
        norms: Callable[[int], Tensor],
        rule: DimensionRule,
        size: int,
    ) -> None:
        super().__init__(schema, norms, rule)
        self._size = size
        self._n_blocks = 1

    def begin(self, real: Tensor, last: Tensor, past: PromptState | None = None) -> None:
        """Prepare for the next forward pass; see :meth:`PromptReduction.begin`."""
        n_tokens = real.shape[1]
        self._n_blocks = -(-n_tokens // self._size)
        rows = self._in_rows(real, 0)  # (B * N, size), of N blocks
        starts = torch.arange(self._n_blocks, device=real.device).repeat(len(real)) * self._size
        last = starts + self._size - 1 - rows.flip(-1).int().argmax(dim=-1)
        super().begin(rows, last.clamp(max=n_tokens - 1), past)

    def states(self) -> list[PromptState]:
        """Statistics of all tokens up to the end of each block."""
        read = self._read()
        rows = torch.arange(len(self._last), device=self._last.device).view(-1, self._n_blocks)
        states: list[PromptState] = []
        before = self._past
        for block in range(self._n_blocks):
            piece = read[rows[:, block]]
            before = piece if before is None else before.followed_by(piece)
            states.append(before)
        return states

    def state(self) -> PromptState:
        """Statistics of all tokens up to now."""
        return self.states()[-1]

    def _in_rows(self, values: Tensor, axis: int, /) -> Tensor:
        """Cut the tokens behind the axis of the prompts into blocks, the last one filled up."""
        n_tokens = values.shape[axis + 1]
        missing = self._n_blocks * self._size - n_tokens
        if missing:
            behind = [0, 0] * (values.ndim - axis - 2)
            values = pad(values, [*behind, 0, missing])
        blocks: Tensor = values.unflatten(axis + 1, (self._n_blocks, self._size))
        return blocks.flatten(axis, axis + 1)

    def _scores(self, attended: Attended) -> Tensor:
        positions = self._last.view(-1, self._n_blocks)
        return geometry.scores_of_tokens(attended, positions).flatten(0, 1)


TENSOR_BYTES = 600
"""Of a small tensor beside its numbers, in this process."""


def n_bytes_of(state: Any) -> int:
    """Bytes of the tensors in a state, or in whatever it is made of."""
    if isinstance(state, Tensor):
        return TENSOR_BYTES + state.numel() * state.element_size()
    if isinstance(state, dict):
        return sum(map(n_bytes_of, state.values()))
    if isinstance(state, list):
        return sum(map(n_bytes_of, state))
    if is_dataclass(state):
        return sum(n_bytes_of(getattr(state, field.name)) for field in fields(state))
    return 0
