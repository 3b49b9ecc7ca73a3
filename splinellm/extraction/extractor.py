"""SplineExtractor: prompts in, a FeatureTable out."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor

from splinellm.backbone.builtin import DEFAULT_MODEL
from splinellm.backbone.loading import Backbone, load_backbone
from splinellm.backbone.recorder import Recorder
from splinellm.backbone.reduction import PromptReduction
from splinellm.errors import (
    ConfigurationError,
    NonFiniteFeaturesError,
    OutOfMemoryError,
    PromptError,
    SchemaError,
)
from splinellm.extraction.batching import batch_size, longest_first
from splinellm.extraction.tokens import TokenizedPrompt, Tokenizer
from splinellm.extraction.verification import VerificationReport, verify_prompts
from splinellm.geometry import DimensionRule
from splinellm.prompts import Prompt
from splinellm.provenance import Provenance
from splinellm.schema import FeatureSchema, FeatureSelection, parse_layers
from splinellm.table import FeatureTable

DEFAULT_MAX_TOKENS = 1024
BATCH_TOKENS_CPU = 512
BATCH_TOKENS_ACCELERATOR = 16_384

OnProgress = Callable[[int, int], None]
"""Called after each batch with the prompts and tokens it held."""

_logger = logging.getLogger(__name__)


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
        self.batch_tokens = batch_tokens
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
        return cls(
            load_backbone(model, dtype=dtype, device=device, device_map=device_map),
            layers=layers,
            features=features,
            max_tokens=max_tokens,
            batch_tokens=batch_tokens,
            dimension_rule=dimension_rule,
            dimension_threshold=dimension_threshold,
            allow_special_tokens=allow_special_tokens,
        )

    def extract(
        self, prompts: str | Iterable[Prompt], *, on_progress: OnProgress | None = None
    ) -> FeatureTable:
        """Compute the features of all prompts.

        Parameters
        ----------
        prompts : str, or iterable of str or of sequences of int
            Texts or token ids.
        on_progress : callable, optional
            Called after each batch with the prompts and tokens it held.

        Returns
        -------
        FeatureTable
            One row per prompt, in order.

        Raises
        ------
        PromptError
            A prompt cannot be read; names its position. See :meth:`extract_valid`.
        """
        table, errors = self.extract_valid(prompts, on_progress=on_progress)
        if errors:
            raise errors[min(errors)]
        return table

    def iter_extract(
        self, prompts: str | Iterable[Prompt], *, window: int = 1024
    ) -> Iterator[FeatureTable]:
        """Compute features lazily, for iterables that do not fit memory.

        Parameters
        ----------
        prompts : str, or iterable of str or of sequences of int
            Consumed a window at a time.
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
        iterator = iter([prompts] if isinstance(prompts, str) else prompts)
        start = 0
        while part := list(islice(iterator, window)):
            table, errors = self.extract_valid(part)
            if errors:
                first = errors[min(errors)]
                first.index = start + min(errors)
                raise first
            yield table
            start += len(part)

    def extract_valid(
        self, prompts: str | Iterable[Prompt], *, on_progress: OnProgress | None = None
    ) -> tuple[FeatureTable, dict[int, PromptError]]:
        """Compute the features of those prompts that can be read; one bad prompt fails alone.

        Parameters
        ----------
        prompts, on_progress
            See :meth:`extract`.

        Returns
        -------
        table : FeatureTable
            The rows of all other prompts, in order.
        errors : dict of int to PromptError
            By position among the prompts.
        """
        batch = [prompts] if isinstance(prompts, str) else list(prompts)
        tokenized, errors = self._tokenizer(batch)
        rows = np.zeros((len(batch), len(self.schema.names)), np.float32)
        for positions, values in self._read(tokenized, errors):
            rows[positions] = values
            if on_progress is not None:
                on_progress(len(positions), sum(len(tokenized[p].ids) for p in positions))
        for position in np.flatnonzero(~np.isfinite(rows).all(axis=1)).tolist():
            errors[position] = NonFiniteFeaturesError(
                f"the forward pass in {self.backbone.dtype} overflowed",
                index=position,
                hint="use float32 or bfloat16",
            )
        kept = [position for position in tokenized if position not in errors]
        table = FeatureTable(
            rows[kept],
            np.array([len(tokenized[p].ids) for p in kept], np.int64),
            np.array([tokenized[p].truncated for p in kept], np.bool_),
            self.provenance,
        )
        return table, errors

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
        return verify_prompts(self, prompts, raise_on_failure=raise_on_failure)

    def tokenize(
        self, prompts: Sequence[Prompt]
    ) -> tuple[dict[int, TokenizedPrompt], dict[int, PromptError]]:
        """Tokenise as :meth:`extract` does; see :class:`splinellm.extraction.tokens.Tokenizer`."""
        return self._tokenizer(prompts)

    def _read(
        self, tokenized: dict[int, TokenizedPrompt], errors: dict[int, PromptError]
    ) -> Iterator[tuple[list[int], np.ndarray]]:
        """Run batch after batch; halve the budget when memory runs out."""
        keys = list(tokenized)
        order = [keys[i] for i in longest_first([len(tokenized[key].ids) for key in keys])]
        reduction = PromptReduction(self.schema, self.backbone.norms, self.rule)
        backbone = self.backbone
        with (
            backbone.lock,
            torch.inference_mode(),
            Recorder(backbone.model, backbone.architecture, reduction) as recorder,
        ):
            while order:
                lengths = [len(tokenized[key].ids) for key in order]
                size = batch_size(lengths, self.batch_tokens)
                try:
                    values = recorder.read(*self.pad([tokenized[key].ids for key in order[:size]]))
                except (RuntimeError, MemoryError) as error:
                    if not _is_out_of_memory(error):
                        raise
                    if size > 1:
                        self._halve_budget(size * lengths[0])
                        continue
                    errors[order[0]] = OutOfMemoryError(
                        f"{lengths[0]} tokens do not fit the memory of {backbone.device}",
                        index=order[0],
                        hint="lower --max-tokens",
                    )
                else:
                    yield order[:size], values.flatten(1).numpy()
                order = order[size:]

    def pad(self, prompts: list[list[int]]) -> tuple[Tensor, Tensor]:
        """Stack token ids, padded on the right: ids (B, T) and lengths (B,), on the device."""
        lengths = torch.tensor([len(ids) for ids in prompts])
        # Any valid id will do: causal attention keeps real tokens from seeing what is on the right.
        input_ids = torch.zeros(len(prompts), int(lengths.max()), dtype=torch.int64)
        for row, ids in zip(input_ids, prompts, strict=True):
            row[: len(ids)] = torch.tensor(ids)
        device = self.backbone.device
        return input_ids.to(device), lengths.to(device)

    def _halve_budget(self, failed_size: int) -> None:
        self.batch_tokens = max(1, failed_size // 2)
        if self.backbone.device.type == "cuda":
            torch.cuda.empty_cache()
        _logger.warning("out of memory: batches are now of %d tokens", self.batch_tokens)

    def _describe(self, *, allow_special_tokens: bool) -> Provenance:
        backbone, selection = self.backbone, self.schema.selection
        precision = "none"
        if selection.needs_distance:
            precision = "full" if backbone.dtype == "float32" else "reduced"
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
            distance_precision=precision,
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


def _is_out_of_memory(error: BaseException) -> bool:
    # On a CPU, on MPS and from a CUDA library it is a plain RuntimeError.
    signs = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(
        sign in str(error) for sign in signs
    )
