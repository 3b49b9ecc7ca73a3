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
from splinellm.backbone.recorder import observe
from splinellm.backbone.reduction import PromptReduction, PromptState
from splinellm.errors import (
    NonFiniteFeaturesError,
    NothingRecordedError,
)
from splinellm.geometry import DimensionRule
from splinellm.live.generation import CacheFollower, follow_generate
from splinellm.live.padding import real_by_mask
from splinellm.live.progress import Progress
from splinellm.provenance import Provenance, distance_precision
from splinellm.schema import FeatureSchema, FeatureSelection, parse_layers
from splinellm.table import FeatureTable


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
        self._progress = Progress()
        self._is_recorded = False

    def __enter__(self) -> Self:
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
            self._progress = Progress()
            stack.enter_context(follow_generate(self._model, self._progress))
            stack.callback(self._cache.release)
            self._attached = stack.pop_all()
        self._forget("no forward pass was recorded")
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
        return self._progress.n_columns

    @property
    def n_prompt_columns(self) -> int:
        """Those of them that it had read when ``generate`` chose its first token."""
        return self._progress.n_prompt_columns

    @property
    def n_tokens(self) -> np.ndarray:
        """Tokens that the features are of, shape (B,), int64."""
        n_tokens: np.ndarray = self._recorded().n_tokens.cpu().numpy()
        return n_tokens

    @property
    def is_finished(self) -> np.ndarray:
        """Rows that do not change any more, shape (B,), bool."""
        is_finished: np.ndarray = self._progress.is_finished.cpu().numpy()
        return is_finished

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
            distance_precision=distance_precision(selection, decoder.dtype),
        )

    def finish(self, rows: Iterable[int]) -> None:
        """Freeze rows: what the model reads of them from now on does not count.

        Parameters
        ----------
        rows : iterable of int
            Rows of the batch. They stay frozen until a forward pass begins anew.
        """
        self._recorded()
        ended = torch.zeros(self._progress.n_rows, dtype=torch.bool)
        ended[[*rows]] = True
        self._progress.end(ended)

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
        past, progress = self._state, self._progress
        goes_on = (
            cache is not None
            and past is not None
            and self._cache.follows(cache)
            and (n_rows, n_cached) == (progress.n_rows, progress.n_columns)
        )
        self._is_recorded = goes_on or n_cached == 0
        self._forget(
            "the last forward pass did not come to its end"
            if self._is_recorded
            else f"the model went on from {n_cached} cached tokens of {n_rows} rows that were not "
            "recorded"
        )
        if not goes_on:
            past = None
            self._cache.release()
            self._decoder.expect_changes(self.schema.layers)
        real = real_by_mask(given.get("attention_mask"), n_rows, n_cached, n_new, tokens.device)
        real = real & progress.read(n_rows, n_new, n_cached, tokens.device, goes_on=goes_on)
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
        self._progress.select(rows)

    def _on_cut(self, n_columns: int) -> None:
        if not self._progress.cut(n_columns):
            self._forget("tokens that were recorded have been taken out of the cache")
