"""What is recorded of requests and who judges them, from what users name to plain values."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any, Literal, Self, cast

from splinellm.errors import ConfigurationError
from splinellm.learn.classifier import Classifier
from splinellm.plan import Plan
from splinellm.provenance import Provenance
from splinellm.schema import FeatureSchema, FeatureSelection
from splinellm.vllm.judging import Rule, plan_of
from splinellm.vllm.parts import ServedModel

Layers = str | Iterable[int] | None
Features = str | Iterable[str] | FeatureSelection | None


@dataclass(frozen=True)
class Wanted:
    """What is recorded of requests; made of plain values, for it goes from process to process.

    Parameters
    ----------
    layers : tuple of int
        Layers.
    features : tuple of str
        Of each.
    n_blocks : int
        Sign blocks.
    dimension_rule, dimension_threshold : str, float
        See :class:`splinellm.geometry.DimensionRule`.
    keep : int, optional
        Requests that are remembered when they have ended.
    keep_s : float, optional
        How long they are.
    rule : Rule, optional
        Who judges them, and when they are ended.
    """

    layers: tuple[int, ...]
    features: tuple[str, ...]
    n_blocks: int
    dimension_rule: str = "relative"
    dimension_threshold: float = 0.1
    keep: int | None = None
    keep_s: float | None = None
    rule: Rule | None = None

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Self:
        """Read what :meth:`plain` wrote."""
        found: dict[str, Any] = {
            name: tuple(it) if isinstance(it, list) else it for name, it in plain.items()
        }
        if found.get("rule") is not None:
            found["rule"] = Rule(**found["rule"])
        return cls(**found)

    def plain(self) -> dict[str, Any]:
        """Write down as lists and numbers; but for a classifier that is neither name nor folder."""
        fields = {
            name: list(it) if isinstance(it, tuple) else it for name, it in vars(self).items()
        }
        return {**fields, "rule": None if self.rule is None else dict(vars(self.rule))}

    def schema(self, n_layers: int) -> FeatureSchema:
        """Names and order of the features."""
        selection = FeatureSelection(tuple(self.features), self.n_blocks)
        return FeatureSchema(tuple(self.layers), selection, n_layers)

    def provenance(self, served: ServedModel) -> Provenance:
        """What the features come from; the weights are the user's, and are not hashed."""
        plan = Plan(
            tuple(self.layers),
            FeatureSelection(tuple(self.features), self.n_blocks),
            served.max_positions or sys.maxsize,  # nothing is cut
            self.dimension_rule,
            self.dimension_threshold,
            allow_special_tokens=True,
        )
        return plan.provenance(cast(Any, served), model=served.name, attention=served.attention)


def wanted_of(
    served: ServedModel,
    *,
    layers: Layers = None,
    features: Features = None,
    dimension_rule: Literal["relative", "absolute"] = "relative",
    dimension_threshold: float = 0.1,
    keep: int | None = None,
    keep_s: float | None = None,
    classifier: Classifier | str | PathLike[str] | None = None,
    guard: bool = False,
    threshold: float | None = None,
    label: str | None = None,
    every: int = 8,
) -> Wanted:
    """What users ask of a model; see :func:`splinellm.vllm.attach_vllm`.

    Raises
    ------
    ConfigurationError
        Arguments that do not go together.
    SchemaError
        A layer or feature does not exist.
    """
    rule = None
    if classifier is not None:
        if layers is not None or features is not None:
            raise ConfigurationError(
                "a classifier says which layers and features are recorded",
                hint="give either the classifier or these",
            )
        needs = plan_of(classifier)
        layers, features = needs.layers, needs.selection
        rule = Rule(classifier, threshold, label, every, guard)
    elif guard:
        raise ConfigurationError("a guard needs a classifier")
    plan = Plan.resolve(
        cast(Any, served),
        layers=layers,
        features="spline" if features is None else features,
        max_tokens=served.max_positions or sys.maxsize,
        dimension_rule=dimension_rule,
        dimension_threshold=dimension_threshold,
        allow_special_tokens=True,
    )
    return Wanted(
        tuple(plan.layers),
        tuple(plan.selection.names),
        plan.selection.n_blocks,
        plan.dimension_rule,
        plan.dimension_threshold,
        keep,
        keep_s,
        rule,
    )
