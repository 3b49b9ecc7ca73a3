"""The fast functions of the statistics, and what they are given."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from splinellm import geometry
from splinellm.geometry import DimensionRule
from splinellm.statistics import ENTRIES, SIGN_FRACTION, Statistic

_PLAIN = {entry.name: entry for entry in ENTRIES if isinstance(entry, Statistic)}


class Activations:
    """What the gates of some layers show, and the numbers per token made of it, each made once.

    Parameters
    ----------
    h : Tensor, shape (L, B, T, K)
        Pre-activations.
    norms : callable
        Gives the norms of the hyperplanes, shape (L, 1, 1, K), float32. Called if they are needed.
    wanted : sequence of Statistic
        What will be asked for, directly or as a part of others.
    rms : Tensor, optional
        Root mean square of the gates' inputs, shape (L, B, T), float32, if that is needed.
    """

    def __init__(
        self,
        h: Tensor,
        norms: Callable[[], Tensor],
        wanted: Sequence[Statistic],
        rms: Tensor | None = None,
    ) -> None:
        self._made = {"h": h} if rms is None else {"h": h, "rms": rms}
        self._norms = norms
        self._wanted = {statistic.name: statistic for statistic in wanted}

    def __getitem__(self, name: str) -> Tensor:
        """Numbers of every token by their statistic's name, (L, B, T) or (L, B, T, C)."""
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name: str) -> Tensor:
        if name == "norms":
            return self._norms()
        if name == SIGN_FRACTION.name:
            for statistic in self._wanted.values():
                if statistic.kernel == "sign_counts":  # of blocks: they add up to those of all
                    return self[statistic.name].sum(dim=-1) / self["h"].shape[-1]
        statistic = self._wanted.get(name) or _PLAIN[name]
        return _kernel(statistic)(*map(self.__getitem__, statistic.made_of), *statistic.parameters)


def of_scores(statistic: Statistic, scores: Tensor, rule: DimensionRule) -> Tensor:
    """Numbers (...) of tokens by a statistic of the attention, from their scores (..., H, T)."""
    given = {"scores": scores, "rule": rule}
    return _kernel(statistic)(*(given[part] for part in statistic.made_of), *statistic.parameters)


def _kernel(statistic: Statistic) -> Callable[..., Tensor]:
    kernel: Callable[..., Tensor] = getattr(geometry, statistic.kernel or statistic.name)
    return kernel
