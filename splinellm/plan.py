"""What is to be computed of a prompt: the settings of an extraction, in one object."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from splinellm.conversations import Count, require_count
from splinellm.errors import ConfigurationError, PrecisionWarning, SchemaError
from splinellm.parameters import flag, number, text, whole_from
from splinellm.provenance import Provenance, distance_precision
from splinellm.schema import (
    FeatureSchema,
    FeatureSelection,
    Granularity,
    parse_layers,
    require_granularity,
)

if TYPE_CHECKING:
    from splinellm.backbone.decoder import Decoder
    from splinellm.geometry import DimensionRule

DEFAULT_MAX_TOKENS = 1024

_ONE_TABLE = (
    "max_tokens",
    "dimension_rule",
    "dimension_threshold",
    "allow_special_tokens",
    "granularity",
    "count",
)
"""Settings that must agree for one table to serve two plans."""


@dataclass(frozen=True)
class Plan:
    """Settings of an extraction; prompts with equal plans share batches.

    Layers are numbers here and the token limit is one: what a user says of them
    (``"0-2,29"``, nothing at all) has a meaning only with a model, see :meth:`resolve`.

    Parameters
    ----------
    layers : tuple of int
        Layers, ascending, counted from 0. The forward pass stops after the last.
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
    count : str
        Tokens of a conversation that the statistics are over; see
        :data:`splinellm.conversations.Count`.
    """

    layers: tuple[int, ...]
    selection: FeatureSelection
    max_tokens: int
    dimension_rule: str = "relative"
    dimension_threshold: float = 0.1
    allow_special_tokens: bool = False
    granularity: Granularity = "prompt"
    count: Count = "all"

    @classmethod
    def resolve(
        cls,
        decoder: Decoder,
        *,
        layers: str | int | Iterable[int] | None = None,
        features: str | Iterable[str] | FeatureSelection = "paper",
        max_tokens: int | None = None,
        dimension_rule: str = "relative",
        dimension_threshold: float = 0.1,
        allow_special_tokens: bool = False,
        count: Count = "all",
    ) -> Plan:
        """Make the plan that a user's options mean for a model, and check it.

        Parameters
        ----------
        decoder : Decoder
            The model.
        layers : str, int, iterable of int, or None
            See :func:`splinellm.schema.parse_layers`; None is all.
        features : str, iterable of str, or FeatureSelection
            See :meth:`splinellm.schema.FeatureSelection.parse`.
        max_tokens : int, optional
            1024 or the model's limit, if that is less.
        dimension_rule, dimension_threshold, allow_special_tokens, count
            See the class.

        Raises
        ------
        SplineLLMError
            See :meth:`checked`; or layers or features cannot be read.
        """
        if max_tokens is None:
            max_tokens = min(DEFAULT_MAX_TOKENS, decoder.max_positions or DEFAULT_MAX_TOKENS)
        plan = cls(
            parse_layers(layers, decoder.n_layers),
            FeatureSelection.parse(features),
            whole_from(1, "max_tokens", max_tokens),
            text("dimension_rule", dimension_rule),
            number("dimension_threshold", dimension_threshold),
            flag("allow_special_tokens", allow_special_tokens),
            count=cast(Count, text("count", count)),
        )
        return plan.checked(decoder)

    @classmethod
    def of(cls, provenance: Provenance) -> Plan:
        """Make the plan that computes what `provenance` describes."""
        return cls(
            provenance.layers,
            FeatureSelection(provenance.features, provenance.n_blocks),
            provenance.max_tokens,
            provenance.dimension_rule,
            provenance.dimension_threshold,
            provenance.allow_special_tokens,
            provenance.granularity,
            provenance.count,
        )

    def checked(self, decoder: Decoder) -> Plan:
        """Make sure that a model can do this, and return the plan with its layers in order.

        Warns with a :class:`splinellm.errors.PrecisionWarning`, at the user's own line, if
        distances, or complexities of small radii, are wanted of a forward pass that cannot resolve
        them.

        Raises
        ------
        SchemaError
            A layer does not exist or was not loaded, or there are fewer hyperplanes than blocks.
        ConfigurationError
            The token limit or the dimension's threshold or rule is impossible.
        AttentionUnavailableError
            The intrinsic dimension is wanted, and the architecture does not show its attention.
        """
        layers = parse_layers(self.layers, decoder.n_layers, n_loaded=decoder.n_loaded_layers)
        if self.selection.needs_attention:
            decoder.architecture.require_attention()
        if self.selection.needs_blocks and self.selection.n_blocks > decoder.n_hyperplanes:
            raise SchemaError(
                f"{self.selection.n_blocks} sign blocks cannot be cut from "
                f"{decoder.n_hyperplanes} hyperplanes",
                hint="ask for fewer, as in blocks:16",
            )
        require_count(self.count)
        self.require_countable(self.granularity)
        _ = self.rule  # which checks itself
        _check_token_limit(self.max_tokens, decoder.max_positions)
        if distance_precision(self.selection, decoder.dtype) == "reduced":
            warnings.warn(
                f"hyperplane distances, and complexity of radii below 0.05, in {decoder.dtype} are "
                "mostly rounding noise; use float32, or ask for features without them",
                PrecisionWarning,
                stacklevel=_level_of_user(),
            )
        return replace(self, layers=layers)

    def require_countable(self, granularity: Granularity) -> None:
        """Refuse rows that would begin before anything is counted.

        Raises
        ------
        SchemaError
            There is no such granularity.
        ConfigurationError
            They stand for prefixes, whose first ones may have no token that counts.
        """
        require_granularity(granularity)
        if granularity == "prefix" and self.count != "all":
            raise ConfigurationError(
                f"rows of prefixes count all tokens, not '{self.count}' alone",
                hint="ask for granularity 'token', whose rows tell role and message",
            )

    @property
    def rule(self) -> DimensionRule:
        """When an attention weight counts towards the intrinsic dimension."""
        from splinellm.geometry import DimensionRule  # torch, only now

        return DimensionRule(self.dimension_threshold, cast(Any, self.dimension_rule))

    @property
    def n_columns(self) -> int:
        """Numbers of a row."""
        return len(self.layers) * len(self.selection.at(self.granularity).names)

    def schema(self, n_layers: int) -> FeatureSchema:
        """Names and order of the columns, for a model of so many layers."""
        schema = FeatureSchema(self.layers, self.selection, n_layers)
        return schema if self.granularity == "prompt" else schema.at(self.granularity)

    def provenance(
        self,
        decoder: Decoder,
        *,
        model: str,
        attention: str,
        weights_sha256: str = "",
        tokenizer_probe: tuple[int, ...] = (),
        chat_template_sha256: str = "",
    ) -> Provenance:
        """Describe the tables that this makes with a model.

        Parameters
        ----------
        decoder : Decoder
            The model.
        model : str
            What the user calls it.
        attention : str
            What computes its attention.
        weights_sha256, tokenizer_probe, chat_template_sha256
            Empty where they are not known: the model is the user's own.
        """
        selection = self.selection.at(self.granularity)
        return Provenance(
            model=model,
            weights_sha256=weights_sha256,
            architecture=decoder.architecture.model_type,
            n_layers=decoder.n_layers,
            dtype=decoder.dtype,
            attention=attention,
            layers=self.layers,
            features=selection.names,
            n_blocks=selection.n_blocks,
            max_tokens=self.max_tokens,
            dimension_rule=self.dimension_rule,
            dimension_threshold=self.dimension_threshold,
            allow_special_tokens=self.allow_special_tokens,
            tokenizer_probe=tokenizer_probe,
            distance_precision=distance_precision(selection, decoder.dtype),
            granularity=self.granularity,
            count=self.count,
            chat_template_sha256=chat_template_sha256,
        )

    def union(self, other: Plan) -> Plan:
        """Make a plan of the layers and features of both.

        Raises
        ------
        ValueError
            The plans differ in something else, so that no table can serve both.
        """
        for name in _ONE_TABLE:
            if getattr(self, name) != getattr(other, name):
                raise ValueError(f"the plans differ in {name}")
        return replace(
            self,
            layers=tuple(sorted({*self.layers, *other.layers})),
            selection=self.selection.union(other.selection),
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
            # As for texts, unless there is something to say of conversations.
            **({} if self.count == "all" else {"count": self.count}),
        }


def _check_token_limit(max_tokens: int, max_positions: int | None) -> None:
    if whole_from(1, "max_tokens", max_tokens) > (max_positions or max_tokens):
        raise ConfigurationError(
            f"max_tokens is {max_tokens}, but the model has {max_positions} positions"
        )


def _level_of_user() -> int:
    """Stack level, for a warning of the caller's, of the first line outside of the library."""
    frame, level = inspect.currentframe(), 0
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] == "splinellm":
        frame, level = frame.f_back, level + 1
    return level
