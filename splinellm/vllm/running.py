"""Running statistics of many texts, each in a slot of its own: float32 sums, no token kept.

A text has two halves, what was asked and what was answered, so that its features can be of either
or of both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from splinellm.backbone.block_reduction import n_bytes_of
from splinellm.backbone.merging import Merged, merging_of
from splinellm.schema import FeatureSchema

N_HALVES = 2
PROMPT, ANSWER = range(N_HALVES)


class RunningStatistics:
    """Statistics by layer, slot and half.

    Parameters
    ----------
    schema : FeatureSchema
        What is wanted.
    widths : sequence of int
        Hyperplanes K of each of its layers.
    n_slots : int
        Texts at first; twice as many whenever they are not enough.
    """

    def __init__(self, schema: FeatureSchema, widths: Sequence[int], n_slots: int = 16) -> None:
        self._schema = schema
        self.merging = {
            it.name: merging_of(it, lambda: widths) for it in schema.selection.statistics
        }
        self._n_layers = len(schema.layers)
        self._tables = self._nothing(n_slots)
        self._nothing_of_one = self._nothing(1)
        self._free = [*range(n_slots)]

    def _nothing(self, n_slots: int) -> dict[str, Any]:
        return {
            name: it.nothing(self._n_layers, n_slots * N_HALVES)
            for name, it in self.merging.items()
        }

    @property
    def shape(self) -> tuple[int, int]:
        """Of the features of one text, (L, F)."""
        return self._schema.shape

    @property
    def n_bytes(self) -> int:
        """Bytes of the statistics of one text."""
        return n_bytes_of(self._nothing_of_one)

    @property
    def n_bytes_held(self) -> int:
        """Bytes of all slots."""
        return n_bytes_of(self._tables)

    def take(self) -> int:
        """Begin a text; returns its slot."""
        if not self._free:
            self._grow()
        slot: int = self._free.pop()
        rows = torch.arange(slot * N_HALVES, (slot + 1) * N_HALVES)
        for name, table in self._tables.items():
            _put(table, rows, self._nothing_of_one[name])
        return slot

    def give_back(self, slot: int) -> None:
        """End a text."""
        self._free.append(slot)

    def _grow(self) -> None:
        n_before = next(iter(_tensors(self._tables))).shape[1] // N_HALVES
        larger = self._nothing(2 * n_before)
        rows = torch.arange(n_before * N_HALVES)
        for name, table in self._tables.items():
            _put(larger[name], rows, table)
        self._tables = larger
        self._free += range(n_before, 2 * n_before)

    def add(
        self,
        rows: Sequence[tuple[int, int]],
        values: Mapping[str, Tensor],
        piece: Tensor,
    ) -> None:
        """Let texts go on.

        Parameters
        ----------
        rows : sequence of (int, int)
            Slot and half of each of P pieces; none twice.
        values : mapping of str to Tensor
            By the statistic's name: numbers of N tokens, (L, N) or (L, N, C); of the attention, of
            the pieces' last tokens, (L, P).
        piece : Tensor, shape (N,), int64
            Which piece a token is of, ascending.
        """
        index = torch.tensor([slot * N_HALVES + half for slot, half in rows])
        for name, merging in self.merging.items():
            table = self._tables[name]
            later = merging.merge_pieces(values[name].cpu(), piece, len(rows))
            _put(table, index, table[:, index].followed_by(later))

    def packed(self, slot: int) -> np.ndarray:
        """Everything of a text in one array, float32."""
        rows = torch.arange(slot * N_HALVES, (slot + 1) * N_HALVES)
        parts = [part[:, rows].flatten().float() for part in _tensors(self._tables)]
        packed: np.ndarray = torch.cat(parts).numpy()
        return packed

    def features(self, packed: Sequence[np.ndarray], halves: Sequence[int]) -> np.ndarray:
        """Features of texts, over one of their halves or both.

        Parameters
        ----------
        packed : sequence of ndarray
            Of :meth:`packed`.
        halves : sequence of int
            ``[PROMPT, ANSWER]``, or one of them.

        Returns
        -------
        ndarray, shape (B, L, F), float32
            In the schema's order.
        """
        merged = self._unpacked(packed)
        columns = []
        for name, merging in self.merging.items():
            whole: Any = merged[name][:, halves[0] :: N_HALVES]
            for half in halves[1:]:
                whole = whole.followed_by(merged[name][:, half::N_HALVES])
            columns.append(merging.of_prompts(whole))
        places = {name: i for i, name in enumerate(n for names, _ in columns for n in names)}
        wanted = [places[name] for name in self._schema.features]
        found = torch.cat([values for _, values in columns], dim=-1)[..., wanted]  # (L, B, F)
        features: np.ndarray = found.movedim(0, 1).contiguous().numpy()
        return features

    def _unpacked(self, packed: Sequence[np.ndarray]) -> dict[str, Merged]:
        """Statistics of texts, (L, B * halves)."""
        whole = torch.from_numpy(np.stack(packed))  # (B, all)
        found = self._nothing(len(packed))
        start = 0
        for tensor, of_one in zip(_tensors(found), _tensors(self._nothing_of_one), strict=True):
            end = start + of_one.numel()
            parts = whole[:, start:end].reshape(len(packed), *of_one.shape)  # (B, L, halves, ...)
            tensor.copy_(parts.transpose(0, 1).flatten(1, 2))
            start = end
        return found


def _tensors(tables: Mapping[str, Any]) -> list[Tensor]:
    return [getattr(it, field.name) for it in tables.values() for field in fields(it)]


def _put(table: Any, rows: Tensor, merged: Any) -> None:
    """Write into rows of a table, in place."""
    for field in fields(table):
        value = getattr(merged, field.name)
        getattr(table, field.name)[:, rows] = value
