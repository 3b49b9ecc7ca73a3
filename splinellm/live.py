"""Features of what the user's own transformers model reads and writes, while it does."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from splinellm.backbone.architectures import ARCHITECTURES
from splinellm.backbone.decoder import Decoder
from splinellm.backbone.recorder import observe
from splinellm.backbone.reduction import PromptReduction, PromptState
from splinellm.errors import (
    NonFiniteFeaturesError,
    NothingRecordedError,
    UnsupportedArchitectureError,
)
from splinellm.geometry import DimensionRule
from splinellm.provenance import Provenance
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

    Examples
    --------
    >>> with attach(model) as recorder:  # doctest: +SKIP
    ...     model.generate(**inputs, max_new_tokens=20)
    ...     recorder.table.array.shape
    (1, 30, 8)
    """
    decoder = _decoder_of(model)
    schema = FeatureSchema(
        parse_layers(layers, decoder.n_layers), FeatureSelection.parse(features), decoder.n_layers
    )
    return LiveRecorder(model, decoder, schema, DimensionRule(dimension_threshold, dimension_rule))


class LiveRecorder:
    """Features of the texts that a model has in its cache; made by :func:`attach`.

    A forward pass without a past begins anew. One that continues a cache, as in ``generate``, adds
    its tokens at a cost that does not grow with what came before. Rows that `generate` has finished
    (their end-of-sequence token was read, or :meth:`finish` was called) do not change any more.
    Padding, wherever the attention mask says it is, never counts. Beams that are reordered take
    their features along.

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
        self._signature = inspect.signature(decoder.model.forward)
        self._attached = ExitStack()
        self._state: PromptState | None = None
        self._finished = torch.zeros(0, dtype=torch.bool)
        self._ends_next: Tensor | None = None
        self._n_cached = self._n_prompt = 0
        self._trouble = "no forward pass was recorded"
        self._reorders: Callable[[], object] | None = None
        self._is_recorded = True

    def __enter__(self) -> Self:
        base = self._decoder.model
        implementation = self._model.config._attn_implementation  # noqa: SLF001 - no public name
        with ExitStack() as stack, torch.no_grad():
            stack.enter_context(
                observe(
                    base,
                    self._decoder.architecture,
                    self._reduction,
                    implementation=implementation,
                    attention_of=self._model,
                    stops=False,
                )
            )
            before = base.register_forward_pre_hook(self._before, with_kwargs=True)
            stack.callback(before.remove)
            stack.callback(base.register_forward_hook(self._after).remove)
            stack.callback(self._let_cache_go)
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
        """Tokens in the model's cache, padding included."""
        return self._n_cached

    @property
    def n_prompt_columns(self) -> int:
        """Those of them that the forward pass without a past read: the prompts, and padding."""
        return self._n_prompt

    @property
    def n_tokens(self) -> np.ndarray:
        """Tokens that the features are of, shape (B,), int64."""
        n_tokens: np.ndarray = self._recorded().n_tokens.cpu().numpy()
        return n_tokens

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
        config = self._model.config
        return Provenance(
            model=str(config._name_or_path),  # noqa: SLF001 - transformers has no public name
            weights_sha256="",
            architecture=decoder.architecture.model_type,
            n_layers=decoder.n_layers,
            dtype=decoder.dtype,
            attention=str(config._attn_implementation).removeprefix("splinellm_"),  # noqa: SLF001
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
        self._finished = self._finished.clone()
        self._finished[[*rows]] = True

    def _recorded(self) -> PromptState:
        if self._state is None:
            raise NothingRecordedError(
                self._trouble, hint="enter the recorder first, then run the model from the start"
            )
        return self._state

    @torch.no_grad()
    def _before(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = self._signature.bind_partial(*args, **kwargs).arguments
        ids = given.get("input_ids")
        tokens = ids if ids is not None else given["inputs_embeds"]
        n_rows, n_new = tokens.shape[:2]
        cache = given.get("past_key_values")
        n_cached = 0 if cache is None else int(cache.get_seq_length())
        if n_cached == 0:
            self._state = None
            self._finished = torch.zeros(n_rows, dtype=torch.bool, device=tokens.device)
            self._ends_next = None
            self._n_prompt = n_new
        elif self._state is None or (n_cached, n_rows) != (self._n_cached, len(self._finished)):
            self._state = None
            self._trouble = (
                f"the model went on from {n_cached} cached tokens of {n_rows} rows that were not "
                "recorded"
            )
        self._n_cached = n_cached + n_new
        if self._ends_next is not None:
            self._finished = self._finished | self._ends_next
        real = _real_tokens(given.get("attention_mask"), n_rows, n_new, tokens.device)
        real = real & ~self._finished[:, None]
        # Only of tokens that `generate` feeds back: a prompt may well hold such a token.
        self._ends_next = self._is_end(ids[:, -1]) if n_cached and ids is not None else None
        self._follow_reorders(cache)
        last = n_new - 1 - real.flip(-1).int().argmax(dim=-1)  # n_new - 1 where nothing is real
        self._reduction.begin(real, last, self._state)
        self._is_recorded = not n_cached or self._state is not None

    @torch.no_grad()
    def _after(self, _module: nn.Module, _args: Any, _output: Any) -> None:
        if self._is_recorded:
            self._state = self._reduction.state()

    def _is_end(self, ids: Tensor) -> Tensor | None:
        config = getattr(self._model, "generation_config", None)
        ends = getattr(config, "eos_token_id", None)
        if ends is None:
            return None
        return torch.isin(ids, torch.as_tensor(ends, device=ids.device))

    def _follow_reorders(self, cache: Any) -> None:
        """Reorder rows with the cache, which is all that beam search tells anyone."""
        self._let_cache_go()
        if cache is None:
            return

        def reorder(beams: Tensor) -> None:
            type(cache).reorder_cache(cache, beams)
            if self._state is not None:
                self._state = self._state[beams.to(self._state.n_tokens.device)]
                self._finished = self._finished[beams.to(self._finished.device)]
                if self._ends_next is not None:
                    self._ends_next = self._ends_next[beams.to(self._ends_next.device)]

        cache.reorder_cache = reorder
        self._reorders = partial(vars(cache).pop, "reorder_cache", None)

    def _let_cache_go(self) -> None:
        if self._reorders is not None:
            self._reorders()
            self._reorders = None


def _real_tokens(mask: Any, n_rows: int, n_new: int, device: torch.device) -> Tensor:
    """Which of the new tokens are no padding, shape (B, T)."""
    if isinstance(mask, Tensor) and mask.ndim == 2:
        return mask[:, -n_new:].to(device).bool()
    return torch.ones(n_rows, n_new, dtype=torch.bool, device=device)


def _decoder_of(model: PreTrainedModel) -> Decoder:
    """Find the decoder inside a model, which may have heads and wrappers around it."""
    for module in model.modules():
        if not isinstance(module, PreTrainedModel):
            continue
        architecture = ARCHITECTURES.get(module.config.model_type)
        try:
            if architecture and len(architecture.decoder_layers(module)):
                return Decoder(module)
        except AttributeError:  # a head with the same config, around the one that has layers
            continue
    raise UnsupportedArchitectureError(
        f"{type(model).__name__} holds no decoder of a supported architecture",
        hint=f"supported: {', '.join(sorted(ARCHITECTURES))}",
    )
