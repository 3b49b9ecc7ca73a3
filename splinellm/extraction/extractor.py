"""SplineExtractor: prompts in, a FeatureTable out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice
from typing import Literal, Self, cast

import numpy as np

from splinellm.backbone.builtin import DEFAULT_MODEL
from splinellm.backbone.loading import Backbone, load_backbone
from splinellm.errors import (
    ConfigurationError,
    NonFiniteFeaturesError,
    OutOfMemoryError,
    PromptError,
    SchemaError,
    VerificationError,
)
from splinellm.extraction.reading import BatchReader
from splinellm.extraction.tokens import TokenizedPrompt, Tokenizer
from splinellm.extraction.verification import PROMPTS, VerificationReport, compare_with_slow
from splinellm.geometry import DimensionRule
from splinellm.prompts import Prompt, as_prompts, iter_prompts
from splinellm.provenance import Provenance, distance_precision
from splinellm.schema import FeatureSchema, FeatureSelection, Granularity, parse_layers
from splinellm.table import FeatureTable

DEFAULT_MAX_TOKENS = 1024
BATCH_TOKENS_CPU = 512
BATCH_TOKENS_ACCELERATOR = 16_384

OnProgress = Callable[[int, int], None]
"""Called after each batch with the prompts and tokens it held."""


class PrecisionWarning(UserWarning):
    """Hyperplane distances were asked for in a dtype that cannot resolve them."""


class SplineExtractor:
    """Read prompts with a model and return the geometry of what it did.

    Parameters
    ----------
    backbone : Backbone
        A loaded model; see :meth:`from_pretrained` for the usual way.
    layers : str, iterable of int, or None
        Decoder layers counted from 0, such as ``"0-2,29"``; None is all.
    features : str, iterable of str, or FeatureSelection
        ``paper`` (the seven spline features and the intrinsic dimension), ``blocks``, ``spline``,
        or names; see :meth:`splinellm.schema.FeatureSelection.parse`.
    max_tokens : int, optional
        Prompts are cut to this many tokens; 1024 or the model's limit, if that is less.
    batch_tokens : int, optional
        Padded tokens of a batch; 512 on a CPU, 16384 elsewhere.
    dimension_rule, dimension_threshold : str, float
        When an attention weight counts; see :class:`splinellm.geometry.DimensionRule`.
    allow_special_tokens : bool
        Whether special-token strings in a prompt become control tokens.

    Raises
    ------
    SchemaError, ConfigurationError
        A layer or feature does not exist, or a limit is impossible.
    AttentionUnavailableError
        The intrinsic dimension is wanted, and the architecture does not show its attention.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        layers: str | Iterable[int] | None = None,
        features: str | Iterable[str] | FeatureSelection = "paper",
        max_tokens: int | None = None,
        batch_tokens: int | None = None,
        dimension_rule: Literal["relative", "absolute"] = "relative",
        dimension_threshold: float = 0.1,
        allow_special_tokens: bool = False,
    ) -> None:
        self.backbone = backbone
        self.schema = FeatureSchema(
            parse_layers(layers, backbone.n_layers),
            FeatureSelection.parse(features),
            backbone.n_layers,
        )
        if self.schema.layers[-1] >= backbone.n_loaded_layers:
            raise SchemaError(
                f"layer {self.schema.layers[-1]} was not loaded",
                hint=f"of the model's {backbone.n_layers} layers, the first "
                f"{backbone.n_loaded_layers} were",
            )
        if self.schema.selection.needs_attention:
            backbone.architecture.require_attention()
        if self.schema.selection.n_blocks > backbone.n_hyperplanes:
            raise SchemaError(
                f"{self.schema.selection.n_blocks} sign blocks cannot be cut from "
                f"{backbone.n_hyperplanes} hyperplanes",
                hint="ask for fewer, as in blocks:16",
            )
        self.rule = DimensionRule(dimension_threshold, dimension_rule)
        self._tokenizer = Tokenizer(
            backbone.tokenizer,
            backbone.n_vocabulary,
            _token_limit(max_tokens, backbone.max_positions),
            allow_special_tokens=allow_special_tokens,
        )
        if batch_tokens is None:
            on_cpu = backbone.device.type == "cpu"
            batch_tokens = BATCH_TOKENS_CPU if on_cpu else BATCH_TOKENS_ACCELERATOR
        if batch_tokens < 1:
            raise ConfigurationError(f"batch_tokens is {batch_tokens}; it must be at least 1")
        self.reader = BatchReader(backbone, self.rule, batch_tokens)
        self.provenance = self._describe(allow_special_tokens=allow_special_tokens)
        if self.provenance.distance_precision == "reduced":
            warnings.warn(
                f"hyperplane distances in {backbone.dtype} are mostly rounding noise; "
                "use float32, or ask for features without distances",
                PrecisionWarning,
                stacklevel=2,
            )

    @classmethod
    def from_pretrained(
        cls,
        model: str = DEFAULT_MODEL,
        *,
        dtype: str = "auto",
        device: str = "auto",
        device_map: str | None = None,
        layers: str | Iterable[int] | None = None,
        features: str | Iterable[str] | FeatureSelection = "paper",
        max_tokens: int | None = None,
        batch_tokens: int | None = None,
        dimension_rule: Literal["relative", "absolute"] = "relative",
        dimension_threshold: float = 0.1,
        allow_special_tokens: bool = False,
    ) -> Self:
        """Load a model by name, folder, .gguf file or Hugging Face id.

        Parameters
        ----------
        model, dtype, device, device_map : str
            See :func:`splinellm.backbone.loading.load_backbone`.
        layers, features, max_tokens, batch_tokens, dimension_rule, dimension_threshold, \
allow_special_tokens
            See the class.

        Examples
        --------
        >>> extractor = SplineExtractor.from_pretrained("smollm2-135m")  # doctest: +SKIP
        >>> extractor.extract(["The capital of France is"]).array.shape  # doctest: +SKIP
        (1, 30, 8)
        """
        features = FeatureSelection.parse(features)  # a typo must not cost the loading of a model
        if layers is not None and not isinstance(layers, str | int):
            layers = tuple(layers)  # it is read twice
        return cls(
            load_backbone(model, dtype=dtype, device=device, device_map=device_map, layers=layers),
            layers=layers,
            features=features,
            max_tokens=max_tokens,
            batch_tokens=batch_tokens,
            dimension_rule=dimension_rule,
            dimension_threshold=dimension_threshold,
            allow_special_tokens=allow_special_tokens,
        )

    def extract(
        self,
        prompts: str | Iterable[Prompt],
        *,
        granularity: Granularity = "prompt",
        on_progress: OnProgress | None = None,
    ) -> FeatureTable:
        """Compute the features of all prompts.

        Equal prompts are read once, and so is what many of them begin with.

        Parameters
        ----------
        prompts : str, or iterable of str or of sequences of int
            Texts or token ids.
        granularity : {"prompt", "prefix", "token"}
            ``prompt``: a row per prompt. ``prefix``: a row per token, with the features of the
            prompt up to and including it, from the same single forward pass. ``token``: a row per
            token, with its own sign fraction, hyperplane distance and intrinsic dimension.
        on_progress : callable, optional
            Called after each batch with the prompts and tokens it held.

        Returns
        -------
        FeatureTable
            One row per prompt, or per token with ``tokens`` saying which, in order.

        Raises
        ------
        PromptError
            A prompt cannot be read; names its position. See :meth:`extract_valid`.
        """
        table, errors = self.extract_valid(
            prompts, granularity=granularity, on_progress=on_progress
        )
        if errors:
            raise errors[min(errors)]
        return table

    def iter_extract(
        self,
        prompts: str | Iterable[Prompt],
        *,
        granularity: Granularity = "prompt",
        window: int = 1024,
    ) -> Iterator[FeatureTable]:
        """Compute features lazily, for iterables that do not fit memory.

        Parameters
        ----------
        prompts : str, or iterable of str or of sequences of int
            Consumed a window at a time.
        granularity : {"prompt", "prefix", "token"}
            See :meth:`extract`; ``tokens.row`` counts through all windows.
        window : int
            Prompts that are sorted by length and batched together.

        Yields
        ------
        FeatureTable
            Of up to `window` prompts, in order.

        Raises
        ------
        PromptError
            A prompt cannot be read; the windows before its own have been yielded.
        """
        if window < 1:
            raise ConfigurationError(f"window is {window}; it must be at least 1")
        iterator = iter_prompts(prompts)
        start = 0
        while part := list(islice(iterator, window)):
            table, errors = self.extract_valid(part, granularity=granularity)
            if errors:
                first = errors[min(errors)]
                first.index = start + min(errors)
                raise first
            if table.tokens is not None:
                table = replace(table, tokens=replace(table.tokens, row=table.tokens.row + start))
            yield table
            start += len(part)

    def extract_valid(
        self,
        prompts: str | Iterable[Prompt],
        *,
        granularity: Granularity = "prompt",
        on_progress: OnProgress | None = None,
    ) -> tuple[FeatureTable, dict[int, PromptError]]:
        """Compute the features of those prompts that can be read; one bad prompt fails alone.

        Parameters
        ----------
        prompts, granularity, on_progress
            See :meth:`extract`.

        Returns
        -------
        table : FeatureTable
            The rows of all other prompts, in order.
        errors : dict of int to PromptError
            By position among the prompts.
        """
        batch = as_prompts(prompts)
        schema = self.schema.at(granularity)
        tokenized, errors = self._tokenizer(batch)
        twins = _twins(tokenized)
        firsts = list(twins)
        rows: dict[int, np.ndarray] = {}
        prompts_read = self.reader.read([tokenized[first].ids for first in firsts], schema)
        # Closed, so that the model is free again when a caller's `on_progress` raises.
        with closing(prompts_read) as batches:
            for readings in batches:
                done: list[int] = []
                for reading in readings:
                    first = firsts[reading.position]
                    for position in twins[first]:
                        if error := self._why_not(reading.rows, tokenized[first], position):
                            errors[position] = error
                        else:
                            rows[position] = cast(np.ndarray, reading.rows)
                    done += twins[first]
                if on_progress is not None:
                    on_progress(len(done), sum(len(tokenized[p].ids) for p in done))
        return self._table(rows, batch, tokenized, schema), errors

    def _why_not(
        self, rows: np.ndarray | None, prompt: TokenizedPrompt, position: int
    ) -> PromptError | None:
        """Reason why a prompt has no features, if so."""
        if rows is None:
            return OutOfMemoryError(
                f"{len(prompt.ids)} tokens do not fit the memory of {self.backbone.device}",
                index=position,
                hint="lower --max-tokens",
            )
        if not np.isfinite(rows).all():
            return NonFiniteFeaturesError(
                f"the forward pass in {self.backbone.dtype} overflowed",
                index=position,
                hint="use float32 or bfloat16",
            )
        return None

    def _table(
        self,
        rows: dict[int, np.ndarray],
        prompts: Sequence[Prompt],
        tokenized: dict[int, TokenizedPrompt],
        schema: FeatureSchema,
    ) -> FeatureTable:
        kept = sorted(rows)
        provenance = self.provenance_at(schema.granularity)
        lengths = np.array([len(tokenized[p].ids) for p in kept], np.int64)
        truncated = np.array([tokenized[p].truncated for p in kept], np.bool_)
        empty = np.empty((0, len(schema.names)), np.float32)
        values = np.concatenate([empty, *(rows[position] for position in kept)])
        if schema.granularity == "prompt":
            return FeatureTable(values, lengths, truncated, provenance)
        tokens = self._tokenizer.index({p: prompts[p] for p in kept}, tokenized)
        n_tokens = np.repeat(lengths, lengths)
        if schema.granularity == "prefix":
            n_tokens = tokens.position + 1
        return FeatureTable(values, n_tokens, np.repeat(truncated, lengths), provenance, tokens)

    @property
    def batch_tokens(self) -> int:
        """Padded tokens of a batch; halved when memory runs out."""
        return self.reader.batch_tokens

    @batch_tokens.setter
    def batch_tokens(self, batch_tokens: int) -> None:
        self.reader.batch_tokens = batch_tokens

    def provenance_at(self, granularity: Granularity) -> Provenance:
        """What tables of this granularity come from."""
        return replace(
            self.provenance,
            features=self.schema.selection.at(granularity).names,
            granularity=granularity,
        )

    def verify(
        self, prompts: Sequence[Prompt] | None = None, *, raise_on_failure: bool = True
    ) -> VerificationReport:
        """Recompute a few prompts the slow way and compare.

        One prompt at a time, with eager attention, full attention matrices and the paper's
        formulas written out. Worth a call for every new model, device or library version.

        Parameters
        ----------
        prompts : sequence of str or of sequences of int, optional
            A handful of short texts by default.
        raise_on_failure : bool
            Whether to raise if a deviation is beyond its tolerance.

        Returns
        -------
        VerificationReport

        Raises
        ------
        VerificationError
            A feature deviates by more than its tolerance.
        """
        chosen = as_prompts(PROMPTS if prompts is None else prompts)
        if not chosen:
            raise ConfigurationError("there is no prompt to verify with")
        fast = self.extract(chosen).array
        tokenized, _ = self.tokenize(chosen)
        ids = [tokenized[position].ids for position in range(len(chosen))]
        report = compare_with_slow(self.backbone, self.schema, self.rule, ids, fast)
        if raise_on_failure and not report.passed:
            raise VerificationError(f"fast and slow features differ: {report}")
        return report

    def tokenize(
        self, prompts: Sequence[Prompt]
    ) -> tuple[dict[int, TokenizedPrompt], dict[int, PromptError]]:
        """Tokenise as :meth:`extract` does; see :class:`splinellm.extraction.tokens.Tokenizer`."""
        return self._tokenizer(as_prompts(prompts))

    def silence(self) -> None:
        """Warn about no prompt from now on; see :class:`splinellm.prompts.PromptWarning`."""
        self._tokenizer.silence()

    def _describe(self, *, allow_special_tokens: bool) -> Provenance:
        backbone, selection = self.backbone, self.schema.selection
        return Provenance(
            model=backbone.spec,
            weights_sha256=backbone.weights_sha256,
            architecture=backbone.architecture.model_type,
            n_layers=backbone.n_layers,
            dtype=backbone.dtype,
            attention=backbone.architecture.attention_implementation,
            layers=self.schema.layers,
            features=selection.names,
            n_blocks=selection.n_blocks,
            max_tokens=self._tokenizer.max_tokens,
            dimension_rule=self.rule.kind,
            dimension_threshold=self.rule.threshold,
            allow_special_tokens=allow_special_tokens,
            tokenizer_probe=backbone.tokenizer_probe,
            distance_precision=distance_precision(selection, backbone.dtype),
        )


def _token_limit(max_tokens: int | None, max_positions: int | None) -> int:
    if max_tokens is None:
        return min(DEFAULT_MAX_TOKENS, max_positions or DEFAULT_MAX_TOKENS)
    if max_tokens < 1:
        raise ConfigurationError(f"max_tokens is {max_tokens}; it must be at least 1")
    if max_positions is not None and max_tokens > max_positions:
        raise ConfigurationError(
            f"max_tokens is {max_tokens}, but the model has {max_positions} positions"
        )
    return max_tokens


def _twins(tokenized: dict[int, TokenizedPrompt]) -> dict[int, list[int]]:
    """Prompts with equal token ids, which are read once: by the first of them, all of them."""
    first: dict[tuple[int, ...], int] = {}
    twins: dict[int, list[int]] = {}
    for position, prompt in tokenized.items():
        twins.setdefault(first.setdefault(tuple(prompt.ids), position), []).append(position)
    return twins
