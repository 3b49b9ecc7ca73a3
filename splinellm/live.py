"""Features of what the user's own transformers model reads and writes, while it does."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel

from splinellm.backbone.decoder import Decoder, decoder_inside
from splinellm.backbone.following import CacheFollower, follow_generate
from splinellm.backbone.masks import real_by_mask
from splinellm.backbone.recorder import observe
from splinellm.backbone.reduction import PromptReduction, PromptState
from splinellm.errors import (
    NonFiniteFeaturesError,
    NothingRecordedError,
)
from splinellm.geometry import DimensionRule
from splinellm.provenance import Provenance
from splinellm.schema import FeatureSchema, FeatureSelection, parse_layers
from splinellm.table import FeatureTable

_NEVER = sys.maxsize
"""Column at which a row ends that goes on."""


def attach(
    model: PreTrainedModel,
    *,
    layers: str | Iterable[int] | None = None,
    features: str | Iterable[str] | FeatureSelection = "paper",
    dimension_rule: Literal["relative", "absolute"] = "relative",
    dimension_threshold: float = 0.1,
) -> LiveRecorder:
    """Watch a model of the user's own: in forward passes, and in the middle of ``generate``.

    The model computes exactly what it would compute without; nothing of it is changed once the
    ``with`` block is over.

    Parameters
    ----------
    model : PreTrainedModel
        Any transformers model that holds a supported decoder, such as those of
        ``AutoModelForCausalLM``.
    layers, features, dimension_rule, dimension_threshold
        See :class:`splinellm.extraction.SplineExtractor`.

    Returns
    -------
    LiveRecorder
        To be used in a ``with`` statement.

    Raises
    ------
    UnsupportedArchitectureError
        The model holds no supported decoder.
    SchemaError, ConfigurationError
        A layer or feature does not exist, or the threshold is impossible.
    AttentionUnavailableError
        On entry: the dimension is wanted, and the attention is neither SDPA nor eager.
    ConfigurationError
        On entry: the model is being watched already; one recorder takes all features.

    Examples
    --------
    >>> with attach(model) as recorder:  # doctest: +SKIP
    ...     model.generate(**inputs, max_new_tokens=20)
    ...     recorder.table.array.shape
    (1, 30, 8)
    """
    decoder = decoder_inside(model)
    schema = FeatureSchema(
        parse_layers(layers, decoder.n_layers), FeatureSelection.parse(features), decoder.n_layers
    )
    return LiveRecorder(model, decoder, schema, DimensionRule(dimension_threshold, dimension_rule))


class LiveRecorder:
    """Features of the texts that a model has in its cache; made by :func:`attach`.

    A forward pass without a past begins anew. One that continues the cache of the last one, as in
    ``generate``, adds its tokens at a cost that does not grow with what came before. Once
    ``generate`` is done with a row, the row does not change any more. Padding, wherever the
    attention mask says it is, never counts. Beams that are reordered take their features along.

    Parameters
    ----------
    model : PreTrainedModel
        The user's model.
    decoder : Decoder
        What of it is watched.
    schema : FeatureSchema
        What is wanted.
    rule : DimensionRule
        When an attention weight counts.
    """

    def __init__(
        self, model: PreTrainedModel, decoder: Decoder, schema: FeatureSchema, rule: DimensionRule
    ) -> None:
        self._model = model
        self._decoder = decoder
        self._rule = rule
        self._reduction = PromptReduction(schema, decoder.norms, rule)
        # Not the base model: OPT's head calls the decoder inside of it.
        self._reader = decoder.architecture.owner_of_layers(decoder.model)
        self._signature = inspect.signature(self._reader.forward)
        self._attached = ExitStack()
        self._cache = CacheFollower(self._on_rows, self._on_cut)
        self._state: PromptState | None = None
        self._trouble = "no forward pass was recorded"
        self._ends = torch.zeros(0, dtype=torch.int64)
        self._n_cached = self._n_prompt = 0
        self._generation: Literal["none", "prefill", "tokens"] = "none"
        self._is_recorded = False

    def __enter__(self) -> Self:
        self._forget("no forward pass was recorded")
        self._n_cached = self._n_prompt = 0
        self._generation = "none"
        with ExitStack() as stack, torch.no_grad():
            stack.enter_context(
                observe(
                    self._decoder.model,
                    self._decoder.architecture,
                    self._reduction,
                    implementation=self._decoder.attention_implementation,
                    stops=False,
                )
            )
            before = self._reader.register_forward_pre_hook(self._before, with_kwargs=True)
            stack.callback(before.remove)
            after = self._reader.register_forward_hook(self._after, with_kwargs=True)
            stack.callback(after.remove)
            stack.enter_context(follow_generate(self._model, self))
            stack.callback(self._cache.release)
            self._attached = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._attached.close()

    @property
    def schema(self) -> FeatureSchema:
        """Names and order of the features."""
        return self._reduction.schema

    @property
    def n_columns(self) -> int:
        """Tokens that the model has read of each row, padding included."""
        return self._n_cached

    @property
    def n_prompt_columns(self) -> int:
        """Those of them that it had read when ``generate`` chose its first token."""
        return self._n_prompt

    @property
    def n_tokens(self) -> np.ndarray:
        """Tokens that the features are of, shape (B,), int64."""
        n_tokens: np.ndarray = self._recorded().n_tokens.cpu().numpy()
        return n_tokens

    @property
    def is_finished(self) -> np.ndarray:
        """Rows that do not change any more, shape (B,), bool."""
        return (self._ends < _NEVER).cpu().numpy()

    @property
    def table(self) -> FeatureTable:
        """Features of every row of the batch, over all that the model has read of it.

        Raises
        ------
        NothingRecordedError
            There was no forward pass yet, or one went on from a cache that was not recorded.
        NonFiniteFeaturesError
            The forward pass overflowed in one of the rows.
        """
        state = self._recorded()
        values = self._reduction.features(state).flatten(1).numpy()
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
            raise NonFiniteFeaturesError(
                f"the forward pass in {self._decoder.dtype} overflowed",
                index=row,
                hint="use float32 or bfloat16",
            )
        n_tokens = self.n_tokens
        return FeatureTable(values, n_tokens, np.zeros(len(n_tokens), np.bool_), self.provenance)

    @property
    def provenance(self) -> Provenance:
        """What the table comes from; the weights are the user's, and are not hashed."""
        decoder, selection = self._decoder, self.schema.selection
        precision = "none"
        if selection.needs_distance:
            precision = "full" if decoder.dtype == "float32" else "reduced"
        return Provenance(
            model=str(self._model.config._name_or_path),  # noqa: SLF001 - no public name
            weights_sha256="",
            architecture=decoder.architecture.model_type,
            n_layers=decoder.n_layers,
            dtype=decoder.dtype,
            attention=decoder.attention_implementation,
            layers=self.schema.layers,
            features=selection.names,
            n_blocks=selection.n_blocks,
            max_tokens=decoder.max_positions or sys.maxsize,
            dimension_rule=self._rule.kind,
            dimension_threshold=self._rule.threshold,
            allow_special_tokens=True,
            tokenizer_probe=(),
            distance_precision=precision,
        )

    def finish(self, rows: Iterable[int]) -> None:
        """Freeze rows: what the model reads of them from now on does not count.

        Parameters
        ----------
        rows : iterable of int
            Rows of the batch. They stay frozen until a forward pass begins anew.
        """
        self._recorded()
        is_done = torch.zeros(len(self._ends), dtype=torch.bool)
        is_done[[*rows]] = True
        self.on_decision(is_done)

    def on_start(self) -> None:
        """Take note that ``generate`` was called; for the overlay on it."""
        self._generation = "prefill"

    def on_decision(self, is_done: Tensor) -> None:
        """Freeze the rows that are done; for the overlay on ``generate``."""
        if self._generation == "prefill":
            self._generation = "tokens"
        if len(is_done) == len(self._ends):  # beam search decides about more rows than it goes on
            now = self._ends.clamp(max=self._n_cached)
            self._ends = now.where(is_done.to(now.device), self._ends)

    def on_end(self) -> None:
        """Let rows go on that were read to their end; for the overlay on ``generate``."""
        self._generation = "none"
        self._ends = self._ends.masked_fill(self._ends >= self._n_cached, _NEVER)

    def _recorded(self) -> PromptState:
        if self._state is None:
            raise NothingRecordedError(
                self._trouble, hint="enter the recorder first, then run the model from the start"
            )
        return self._state

    def _forget(self, trouble: str) -> None:
        self._state = None
        self._trouble = trouble

    @torch.no_grad()
    def _before(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = self._arguments(args, kwargs)
        tokens = given["inputs_embeds"] if given.get("input_ids") is None else given["input_ids"]
        n_rows, n_new = tokens.shape[:2]
        cache: Cache | None = given.get("past_key_values")
        n_cached = 0 if cache is None else int(cache.get_seq_length())
        past, self._is_recorded = self._state, True
        self._forget("the last forward pass did not come to its end")
        if cache is None or n_cached == 0:
            past = None
            self._cache.release()
            # Without a cache, `generate` has everything read again for every token.
            if self._generation != "tokens" or n_rows != len(self._ends):
                self._ends = torch.full((n_rows,), _NEVER, device=tokens.device)
        elif (
            past is None
            or not self._cache.follows(cache)
            or (n_cached, n_rows) != (self._n_cached, len(self._ends))
        ):
            past, self._is_recorded = None, False
            self._trouble = (
                f"the model went on from {n_cached} cached tokens of {n_rows} rows that were not "
                "recorded"
            )
            self._ends = torch.full((n_rows,), _NEVER, device=tokens.device)
        self._n_cached = n_cached + n_new
        if self._generation == "prefill" or (n_cached == 0 and self._generation == "none"):
            self._n_prompt = self._n_cached
        columns = torch.arange(n_cached, self._n_cached, device=tokens.device)
        real = real_by_mask(given.get("attention_mask"), n_rows, n_cached, n_new, tokens.device)
        real = real & (columns < self._ends[:, None])
        last = n_new - 1 - real.flip(-1).int().argmax(dim=-1)  # n_new - 1 where nothing is real
        self._reduction.begin(real, last, past)

    @torch.no_grad()
    def _after(
        self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        if not self._is_recorded:
            return
        self._state = self._reduction.state()
        made = output.values() if isinstance(output, dict) else output
        caches = (self._arguments(args, kwargs).get("past_key_values"), *made)
        if (cache := next((it for it in caches if isinstance(it, Cache)), None)) is not None:
            self._cache.follow(cache)

    def _arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        given: dict[str, Any] = self._signature.bind_partial(*args, **kwargs).arguments
        given.update(given.pop("kwargs", {}))
        return given

    def _on_rows(self, rows: Tensor) -> None:
        if self._state is not None:
            self._state = self._state[rows.to(self._state.n_tokens.device)]
        self._ends = self._ends[rows.to(self._ends.device)]

    def _on_cut(self, n_columns: int) -> None:
        n_kept = self._n_cached - n_columns
        if (self._ends.clamp(max=self._n_cached) > n_kept).any():
            self._forget("tokens that were recorded have been taken out of the cache")
        self._n_cached = n_kept
