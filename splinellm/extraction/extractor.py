"""SplineExtractor: prompts in, a FeatureTable out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from copy import copy
from os import PathLike
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import nn

from splinellm.backbone.builtin import DEFAULT_MODEL
from splinellm.backbone.given import backbone_of
from splinellm.backbone.loading import Backbone, load_backbone
from splinellm.conversations import Count
from splinellm.errors import ConfigurationError, PromptError, VerificationError
from splinellm.extraction.base import Extractor, KeyT, OnProgress
from splinellm.extraction.chat import chat_template_of, require_template, template_sha256
from splinellm.extraction.layer_inputs import read_layer_inputs
from splinellm.extraction.prefix_cache import PrefixCache
from splinellm.extraction.prefix_reading import PrefixReader
from splinellm.extraction.reading import BatchReader
from splinellm.extraction.rows import Rows
from splinellm.extraction.tokens import TokenizedPrompt, Tokenizer
from splinellm.extraction.verification import PROMPTS, VerificationReport, compare_with_slow
from splinellm.parameters import plain, whole, whole_from
from splinellm.plan import Plan
from splinellm.prompts import Prompt, as_prompts
from splinellm.provenance import Provenance
from splinellm.schema import FeatureSelection, Granularity, Layers, kept_layers
from splinellm.table_views import reading_in_words
from splinellm.token_index import TokenIndex

BATCH_TOKENS_CPU = 512
BATCH_TOKENS_ACCELERATOR = 16_384


class SplineExtractor(Extractor):
    """Read prompts with a model and return the geometry of what it did.

    Parameters
    ----------
    model : Backbone or Module
        A loaded model: one of transformers, with its tokenizer, or a backbone; see
        :meth:`from_pretrained` for the usual way. It is put into evaluation mode.
    tokenizer : PreTrainedTokenizerBase, optional
        Of a transformers model; a fast one. Prompts that are token ids need none.
    layers : str, int, iterable of int, or None
        Layers counted from 0, such as ``"0-2,29"``; None is all.
    features : str, iterable of str, or FeatureSelection
        ``paper`` (the seven spline features and the intrinsic dimension), ``blocks``, ``spline``,
        or names; see :meth:`splinellm.schema.FeatureSelection.parse`.
    max_tokens : int, optional
        Prompts are cut to this many tokens; 1024 or the model's limit, if that is less. What is
        left of a text ends with the special tokens of an encoder, such as ``[SEP]``.
    batch_tokens : int, optional
        Padded tokens of a batch; 512 on a CPU, 16384 elsewhere.
    dimension_rule, dimension_threshold : str, float
        When an attention weight counts; see :class:`splinellm.geometry.DimensionRule`.
    allow_special_tokens : bool
        Whether special-token strings in a prompt become control tokens.
    count : {"all", "content", "user", "assistant", "system", "last"}
        Tokens of a conversation that the statistics are over; see
        :data:`splinellm.conversations.Count`. Beyond ``all`` prompts must be conversations.
    chat_template : str, optional
        Jinja source that renders conversations; the model's own by default.
    prefix_cache_bytes : int
        Memory for beginnings of prompts, so that one that begins like an earlier one costs only
        what is new; see :class:`splinellm.extraction.prefix_cache.PrefixCache`. 0 is none: rows
        then are the same to the last bit, whatever was read before.
    prefix_cache : PrefixCache, optional
        In place of `prefix_cache_bytes`: one that several extractors of the model share.

    Raises
    ------
    SchemaError, ConfigurationError
        A layer or feature does not exist, or a limit is impossible.
    AttentionUnavailableError
        The intrinsic dimension is wanted, and the architecture does not show its attention.
    UnsupportedArchitectureError
        The model is of an architecture that cannot be read.

    Examples
    --------
    >>> model = AutoModelForCausalLM.from_pretrained(path)  # doctest: +SKIP
    >>> SplineExtractor(model, AutoTokenizer.from_pretrained(path))  # doctest: +SKIP
    """

    def __init__(
        self,
        model: Backbone | nn.Module,
        tokenizer: Any = None,
        *,
        layers: Layers = None,
        features: str | Iterable[str] | FeatureSelection = "paper",
        max_tokens: int | None = None,
        batch_tokens: int | None = None,
        dimension_rule: Literal["relative", "absolute"] = "relative",
        dimension_threshold: float = 0.1,
        allow_special_tokens: bool = False,
        count: Count = "all",
        chat_template: str | None = None,
        prefix_cache_bytes: int = 0,
        prefix_cache: PrefixCache | None = None,
    ) -> None:
        self.backbone = backbone = backbone_of(model, tokenizer)
        chat_template = plain(chat_template)
        self.plan = Plan.resolve(
            backbone,
            layers=layers,
            features=features,
            max_tokens=max_tokens,
            dimension_rule=dimension_rule,
            dimension_threshold=dimension_threshold,
            allow_special_tokens=allow_special_tokens,
            count=count,
        )
        self.schema = self.plan.schema(backbone.n_layers)
        self._tokenizer = Tokenizer(
            backbone.tokenizer,
            backbone.n_vocabulary,
            self.plan.max_tokens,
            allow_special_tokens=self.plan.allow_special_tokens,
            keeps_end=backbone.architecture.is_encoder,
            count=self.plan.count,
            chat_template=chat_template,
        )
        if batch_tokens is None:
            on_cpu = backbone.device.type == "cpu"
            batch_tokens = BATCH_TOKENS_CPU if on_cpu else BATCH_TOKENS_ACCELERATOR
        batch_tokens = whole_from(1, "batch_tokens", batch_tokens)
        n_bytes = whole("prefix_cache_bytes", prefix_cache_bytes)
        if prefix_cache is None and n_bytes:
            prefix_cache = PrefixCache(n_bytes)
        if not isinstance(prefix_cache, PrefixCache | None):
            raise ConfigurationError(
                f"prefix_cache is of type {type(prefix_cache).__name__}",
                hint="give a PrefixCache, or its size as prefix_cache_bytes",
            )
        self.prefix_cache = prefix_cache
        self.reader = (
            BatchReader(backbone, self.plan.rule, batch_tokens)
            if prefix_cache is None
            else PrefixReader(backbone, self.plan.rule, batch_tokens, prefix_cache)
        )
        self._template_sha256 = template_sha256(
            chat_template or chat_template_of(backbone.tokenizer)
        )
        self._provenance = self._current_provenance()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({reading_in_words(self._provenance)})"

    @classmethod
    def from_pretrained(
        cls,
        model: str | PathLike[str] = DEFAULT_MODEL,
        *,
        dtype: str = "auto",
        device: str | int | torch.device = "auto",
        device_map: str | None = None,
        layers: Layers = None,
        features: str | Iterable[str] | FeatureSelection = "paper",
        max_tokens: int | None = None,
        batch_tokens: int | None = None,
        dimension_rule: Literal["relative", "absolute"] = "relative",
        dimension_threshold: float = 0.1,
        allow_special_tokens: bool = False,
        count: Count = "all",
        chat_template: str | None = None,
        prefix_cache_bytes: int = 0,
        prefix_cache: PrefixCache | None = None,
    ) -> Self:
        """Load a model by name, folder, .gguf file or Hugging Face id.

        Parameters
        ----------
        model : str or path
        dtype, device, device_map
            See :func:`splinellm.backbone.loading.load_backbone`.
        layers, features, max_tokens, batch_tokens, dimension_rule, dimension_threshold, \
allow_special_tokens, count, chat_template, prefix_cache_bytes, prefix_cache
            See the class.

        Examples
        --------
        >>> extractor = SplineExtractor.from_pretrained("smollm2-135m")  # doctest: +SKIP
        >>> extractor.extract(["The capital of France is"]).array.shape  # doctest: +SKIP
        (1, 30, 8)
        """
        features = FeatureSelection.parse(features)  # a typo must not cost the loading of a model
        if chat_template is not None:
            require_template(chat_template)
        layers = kept_layers(layers)
        return cls(
            load_backbone(model, dtype=dtype, device=device, device_map=device_map, layers=layers),
            layers=layers,
            features=features,
            max_tokens=max_tokens,
            batch_tokens=batch_tokens,
            dimension_rule=dimension_rule,
            dimension_threshold=dimension_threshold,
            allow_special_tokens=allow_special_tokens,
            count=count,
            chat_template=chat_template,
            prefix_cache_bytes=prefix_cache_bytes,
            prefix_cache=prefix_cache,
        )

    def tokenize(
        self, prompts: Sequence[Prompt]
    ) -> tuple[dict[int, TokenizedPrompt], dict[int, PromptError]]:
        """Tokenise as :meth:`extract` does; see :class:`splinellm.extraction.tokens.Tokenizer`."""
        return self._tokenizer(as_prompts(prompts))

    def tokenize_whole(
        self, prompts: Sequence[Prompt]
    ) -> tuple[dict[int, TokenizedPrompt], dict[int, PromptError]]:
        """Tokenise in the same way, but cut nothing."""
        return self._tokenizer(as_prompts(prompts), cuts=False)

    @property
    def affixes(self) -> tuple[Sequence[int], Sequence[int]]:
        """Token ids that every text begins with, and those that it ends with however it is cut."""
        return self._tokenizer.prefix, self._tokenizer.suffix

    @property
    def provenance(self) -> Provenance:
        """What tables come from whose rows stand for prompts; of the model as it is now."""
        self.backbone.look()
        facts = self._provenance.weights_sha256, self._provenance.dtype
        if facts != (self.backbone.weights_sha256, self.backbone.dtype):
            self._provenance = self._current_provenance()
        return self._provenance

    def _current_provenance(self) -> Provenance:
        return self.plan.provenance(
            self.backbone,
            model=self.backbone.spec,
            attention=self.backbone.architecture.attention_implementation,
            weights_sha256=self.backbone.weights_sha256,
            tokenizer_probe=self.backbone.tokenizer_probe,
            chat_template_sha256=self._template_sha256,
        )

    @property
    def identity(self) -> str:
        """What the model was when it was last looked at, for caches."""
        return self.backbone.identity.key

    def provenance_at(self, granularity: Granularity) -> Provenance:
        """What tables of this granularity come from; refuses impossible prefixes at once."""
        self.backbone.architecture.require_granularity(granularity)
        self.plan.require_countable(granularity)
        return super().provenance_at(granularity)

    def anew(self) -> Self:
        """Give an extractor of the same settings that warns as if it were new.

        It has a batch size of its own, and shares the model and what was found out about it.
        """
        twin = copy(self)
        twin._tokenizer, twin.reader = self._tokenizer.anew(), copy(self.reader)  # noqa: SLF001 (its own)
        return twin

    def require_messages(self) -> None:
        """Refuse to read conversations before there is any, for who knows that there will be.

        Raises
        ------
        ChatTemplateError
            The model has no chat template and none was given, or it cannot be parsed.
        """
        self._tokenizer.require_messages()

    def silence(self) -> None:
        """Warn about no prompt from now on; see :class:`splinellm.prompts.PromptWarning`."""
        self._tokenizer.silence()

    def token_index(
        self, prompts: Mapping[int, Prompt], tokenized: Mapping[int, TokenizedPrompt]
    ) -> TokenIndex:
        """Say which tokens were read; see :meth:`splinellm.extraction.tokens.Tokenizer.index`."""
        return self._tokenizer.index(prompts, tokenized)

    def read(
        self,
        prompts: Mapping[KeyT, TokenizedPrompt],
        *,
        granularity: Granularity = "prompt",
        on_progress: OnProgress | None = None,
    ) -> dict[KeyT, Rows | PromptError]:
        """Compute the rows of prompts that are tokenised.

        See :meth:`splinellm.extraction.base.Extractor.read`.

        Raises
        ------
        PrefixUnavailableError
            Prefixes are wanted of an encoder.
        """
        self.backbone.architecture.require_granularity(granularity)
        self.plan.require_countable(granularity)
        schema = self.schema.at(granularity)
        twins: dict[bytes, list[KeyT]] = {}  # prompts that are alike, which are read once
        for key, prompt in prompts.items():
            if not 1 <= len(prompt.ids) <= self.plan.max_tokens:  # the provenance would be wrong
                raise ValueError(f"a prompt of {len(prompt.ids)} tokens was not cut to the limit")
            twins.setdefault(prompt.key, []).append(key)
        groups = list(twins.values())
        found: dict[KeyT, Rows | PromptError] = {}
        distinct = [prompts[keys[0]] for keys in groups]
        # Closed, so that the model is free again when a caller's `on_progress` raises.
        with closing(self.reader.read(distinct, schema)) as batches:
            for readings in batches:
                done: list[KeyT] = []
                for reading in readings:
                    keys = groups[reading.position]
                    result = reading.result(distinct[reading.position], self.backbone)
                    found.update(dict.fromkeys(keys, result))
                    done += keys
                if on_progress is not None:
                    on_progress(len(done), sum(len(prompts[key].ids) for key in done))
        return {key: found[key] for key in prompts}

    def layer_inputs(self, prompt: Prompt, layers: Layers = None) -> dict[int, np.ndarray]:
        """What the MLPs of some layers read at each token of a prompt.

        Parameters
        ----------
        prompt : str or sequence of int
            Text, or token ids.
        layers : str, int, iterable of int, or None
            Layers counted from 0; None for the extractor's.

        Returns
        -------
        dict of int to ndarray, shape (T, D), float32
            By layer: the x of h = W x + b.

        Raises
        ------
        PromptError
            The prompt cannot be read.
        SchemaError
            A layer does not exist, or was not loaded.
        """
        wanted = self.schema.layers
        if layers is not None:
            wanted = self.backbone.loaded_layers(layers)
        tokenized, errors = self.tokenize([prompt])
        if errors:
            raise errors[0]
        return read_layer_inputs(self.backbone, tokenized[0].ids, wanted)

    @property
    def batch_tokens(self) -> int:
        """Padded tokens of a batch; halved when memory runs out."""
        return self.reader.batch_tokens

    @batch_tokens.setter
    def batch_tokens(self, batch_tokens: int) -> None:
        self.reader.batch_tokens = batch_tokens

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
        tokenized, errors = self.tokenize(chosen)
        if errors:
            raise errors[min(errors)]
        ids = [tokenized[position].ids for position in range(len(chosen))]
        fast = self.extract(ids).array
        report = compare_with_slow(self.backbone, self.schema, self.plan.rule, ids, fast)
        if raise_on_failure and not report.passed:
            raise VerificationError(f"fast and slow features differ: {report}")
        return report
