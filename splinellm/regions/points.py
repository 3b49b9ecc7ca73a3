"""What a point of a network is: its shape, and whether one or several were given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from splinellm.errors import ConfigurationError

Array = TypeVar("Array", Tensor, np.ndarray)


def in_kind(found: Tensor, given: Array) -> Array:
    """A tensor for who gave a tensor, an array for others."""
    return found if isinstance(given, Tensor) else found.numpy()


@dataclass(frozen=True)
class PointKind:
    """Points of a network, as far as is known of them.

    Parameters
    ----------
    name : str
        What the network is called in messages.
    shape : tuple of int, optional
        Shape of one, where the user said it.
    rank : int, optional
        Dimensions of one, where the first layer tells.
    size : int, optional
        Numbers in one, where the first linear layer tells.
    """

    name: str
    shape: tuple[int, ...] | None = None
    rank: int | None = None
    size: int | None = None

    def known_shape(self) -> tuple[int, ...]:
        """Shape of a point.

        Raises
        ------
        ConfigurationError
            Nothing tells it.
        """
        if self.shape is not None:
            return self.shape
        if self.rank == 1 and self.size is not None:
            return (self.size,)
        raise ConfigurationError(
            f"the shape of a point of this {self.name} is not known",
            hint="pass input_shape to PiecewiseAffine.of, such as input_shape=(1, 8, 8)",
        )

    def read(self, given: object) -> tuple[Tensor, bool]:
        """Points (N, ...) in float64, and whether a single one was given.

        Raises
        ------
        ConfigurationError
            They do not fit the network, or are not finite.
        """
        try:
            points = torch.as_tensor(given).detach()
            if points.is_complex():  # torch would drop what is imaginary
                raise TypeError
            points = points.to("cpu", torch.float64)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ConfigurationError(f"a {type(given).__name__} is no point") from error
        is_single = self._is_single(points)
        if is_single is None:
            raise ConfigurationError(
                f"points of shape {tuple(points.shape)} do not fit this {self.name}",
                hint=self._wanted(),
            )
        if not bool(points.isfinite().all()):
            raise ConfigurationError("a point is not finite")
        return (points[None] if is_single else points), is_single

    def read_one(self, given: object, what: str) -> Tensor:
        """One point, in its own shape, float64.

        Raises
        ------
        ConfigurationError
            It is none, or several.
        """
        points, is_single = self.read(given)
        if not is_single:
            raise ConfigurationError(f"{what} is one point; {len(points)} were given")
        return points[0]

    def _is_single(self, points: Tensor) -> bool | None:
        """Whether it is one point, or several; None if neither."""
        shape = tuple(points.shape)
        if self.shape is not None:
            return {self.shape: True, shape[:1] + self.shape: False}.get(shape)
        if self.rank is not None:
            if self.size is not None and shape[-1:] != (self.size,):
                return None
            return {self.rank: True, self.rank + 1: False}.get(len(shape))
        if self.size is None or not shape:
            return None
        if points.numel() == self.size:
            return True
        return False if points.numel() == shape[0] * self.size else None

    def _wanted(self) -> str:
        if self.shape is not None:
            return f"a point has the shape {self.shape}"
        if self.rank == 1 and self.size is not None:
            return f"a point has the shape ({self.size},)"
        if self.rank is not None:
            return f"a point has {self.rank} dimensions"
        if self.size is not None:
            return f"a point has {self.size} numbers"
        return "pass input_shape to PiecewiseAffine.of, such as input_shape=(1, 8, 8)"
