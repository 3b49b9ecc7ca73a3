"""What is to be computed of a prompt."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from splinellm.provenance import Provenance
from splinellm.schema import (
    HYPERPLANE_DISTANCE,
    PAPER_FEATURES,
    SIGN_FRACTION,
    FeatureSelection,
    Granularity,
    block_name,
)

_SHARED = (
    "max_tokens",
    "dimension_rule",
    "dimension_threshold",
    "allow_special_tokens",
    "granularity",
)


@dataclass(frozen=True)
class Plan:
    """Settings of an extractor, and what to ask it for; prompts with equal plans share batches.

    Parameters
    ----------
    layers : tuple of int
        Decoder layers, ascending, counted from 0. The forward pass stops after the last.
    selection : FeatureSelection
        Features of each layer.
    max_tokens : int
        Prompts are cut to this many tokens.
    dimension_rule, dimension_threshold : str, float
        See :class:`splinellm.geometry.DimensionRule`.
    allow_special_tokens : bool
        Whether special-token strings in a prompt become control tokens.
    granularity : {"prompt", "prefix", "token"}
        What a row stands for. One extractor serves all three.
    """

    layers: tuple[int, ...]
    selection: FeatureSelection
    max_tokens: int
    dimension_rule: str = "relative"
    dimension_threshold: float = 0.1
    allow_special_tokens: bool = False
    granularity: Granularity = "prompt"

    @classmethod
    def of(cls, provenance: Provenance) -> Plan:
        """Make the plan that computes what `provenance` describes."""
        settings = provenance.extractor_settings()
        return cls(
            selection=settings.pop("features"), granularity=provenance.granularity, **settings
        )

    def union(self, other: Plan) -> Plan:
        """Make a plan of the layers and features of both.

        Raises
        ------
        ValueError
            The plans differ in something else, so that no table can serve both.
        """
        for name in _SHARED:
            if getattr(self, name) != getattr(other, name):
                raise ValueError(f"the plans differ in {name}")
        n_blocks = self.selection.n_blocks
        if n_blocks != other.selection.n_blocks:
            raise ValueError("the plans differ in their number of sign blocks")
        wanted = {*self.selection.names, *other.selection.names}
        of_tokens = (SIGN_FRACTION, HYPERPLANE_DISTANCE)
        order = (*of_tokens, *PAPER_FEATURES, *(block_name(i) for i in range(n_blocks)))
        return replace(
            self,
            layers=tuple(sorted({*self.layers, *other.layers})),
            selection=FeatureSelection(tuple(n for n in order if n in wanted), n_blocks),
        )

    def settings(self) -> dict[str, Any]:
        """Keyword arguments of :class:`splinellm.extraction.SplineExtractor`."""
        return {
            "layers": self.layers,
            "features": self.selection,
            "max_tokens": self.max_tokens,
            "dimension_rule": self.dimension_rule,
            "dimension_threshold": self.dimension_threshold,
            "allow_special_tokens": self.allow_special_tokens,
        }
