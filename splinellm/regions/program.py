"""A network as a list of steps, and how points and regions go through it.

Regions go through it together, as affine forms, from one piecewise step to the next. There they are
cut, by whoever asks, and go on with the piece that each of them is on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from splinellm.regions.operations import Affine, Operation, Piecewise


@dataclass(frozen=True)
class Step:
    """An operation, and whose results it takes: -1 is the network's input, i that of step i."""

    operation: Operation
    inputs: tuple[int, ...]


@dataclass(frozen=True)
class Front:
    """N regions that have come to the same step.

    Parameters
    ----------
    position : int
        Index of the step, which is piecewise, or the number of steps.
    held : dict of int to Tensor
        Forms (N, M, ...) of the results that are still needed.
    """

    position: int
    held: dict[int, Tensor] = field(repr=False)


@dataclass(frozen=True)
class Program:
    """A network as steps, in an order in which they can be computed; the last is its output.

    Parameters
    ----------
    steps : tuple of Step
        All of them.
    rank : int, optional
        Dimensions of a single point, if the first layer tells.
    size : int, optional
        Numbers in a single point, if the first linear layer tells.
    """

    steps: tuple[Step, ...]
    rank: int | None = None
    size: int | None = None

    @cached_property
    def _last_use(self) -> dict[int, int]:
        return {place: i for i, step in enumerate(self.steps) for place in step.inputs}

    def run(self, points: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Values (N, ...) at points (N, ...), and the codes (N, U) of every piecewise step."""
        held, codes = {-1: points}, []
        for i, step in enumerate(self.steps):
            inputs = [held[place] for place in step.inputs]
            if isinstance(step.operation, Piecewise):
                codes.append(step.operation.code(inputs[0]))
            held[i] = step.operation.on_points(*inputs)
            self._drop(held, i)
        return held[len(self.steps) - 1], codes

    def begin(self, forms: Tensor) -> Front:
        """Take the input's forms (N, M, ...) to the first piecewise step."""
        return self._to_next(0, {-1: forms})

    def n_units(self, front: Front) -> int:
        """Number of units U of the step."""
        one = self.select(front, torch.zeros(1, dtype=torch.int64))
        return self.contending(one).shape[1]

    def select(self, front: Front, rows: Tensor) -> Front:
        """Some of the regions, rows (N',), int64."""
        return Front(front.position, {place: it[rows] for place, it in front.held.items()})

    def contending(self, front: Front) -> Tensor:
        """Forms of the contenders that decide at the step, (N, U, W, M)."""
        step = self.steps[front.position]
        assert isinstance(step.operation, Piecewise)  # noqa: S101 - for the type checker
        return step.operation.contending_forms(front.held[step.inputs[0]])

    def go_on(self, front: Front, code: Tensor, parents: Tensor | None = None) -> Front:
        """Take regions from a piecewise step to the next.

        Parameters
        ----------
        front : Front
            Where they are.
        code : Tensor, shape (N', U)
            Pieces that the units of the step are on.
        parents : Tensor, shape (N',), int64, optional
            Which of the regions at the step each one is a part of; by default they are the same.
        """
        held = front.held if parents is None else self.select(front, parents).held
        step = self.steps[front.position]
        assert isinstance(step.operation, Piecewise)  # noqa: S101 - for the type checker
        held = {**held, front.position: step.operation.on_piece(held[step.inputs[0]], code)}
        self._drop(held, front.position)
        return self._to_next(front.position + 1, held)

    def is_last(self, front: Front) -> bool:
        """Whether no piecewise step follows."""
        later = self.steps[front.position + 1 :]
        return not any(isinstance(step.operation, Piecewise) for step in later)

    def is_done(self, front: Front) -> bool:
        """Whether there is no further piecewise step."""
        return front.position == len(self.steps)

    def result(self, front: Front) -> Tensor:
        """Forms (N, M, ...) of the output, of regions that are done."""
        return front.held[len(self.steps) - 1]

    def _to_next(self, position: int, held: dict[int, Tensor]) -> Front:
        while position < len(self.steps):
            step = self.steps[position]
            if not isinstance(step.operation, Affine):
                break
            held[position] = step.operation.on_forms(*(held[place] for place in step.inputs))
            self._drop(held, position)
            position += 1
        return Front(position, held)

    def _drop(self, held: dict[int, Tensor], position: int) -> None:
        """Forget what no later step takes."""
        for place in [it for it in held if self._last_use.get(it, len(self.steps)) <= position]:
            del held[place]
