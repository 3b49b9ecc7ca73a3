"""A loaded model with its engine."""

from __future__ import annotations

import sys
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from threading import Lock

from service.engine import Engine, EngineLimits, EngineListener, Plan
from service.errors import InvalidRequestError
from service.scoring import ScoringPlan, ScoringReader
from splinellm.backbone.loading import Backbone
from splinellm.conversations import Count
from splinellm.errors import ConfigurationError, PromptError, SchemaError
from splinellm.extraction import PrecisionWarning, SplineExtractor
from splinellm.extraction.base import Reader
from splinellm.extraction.prefix_cache import PrefixCache
from splinellm.extraction.rows import Rows, assemble
from splinellm.extraction.tokens import TokenizedPrompt, Tokenizer
from splinellm.prompts import Prompt
from splinellm.provenance import Provenance
from splinellm.schema import FeatureSelection, Granularity, parse_layers
from splinellm.table import FeatureTable

MAX_EXTRACTORS = 64
"""Plans whose extractors are kept; they share the model and cost little."""


class ServedModel:
    """A loaded model: its tokenizer, its plans, and the engine whose thread owns it.

    Parameters
    ----------
    name : str
        What requests call it.
    backbone : Backbone
        The model.
    limits : EngineLimits
        Of the engine.
    listener : EngineListener
        Hears what the engine does.
    max_tokens : int
        Longest prompt that a plan may ask for.
    allow_special_tokens : bool
        Whether special-token strings in a prompt become control tokens.
    chat_template : str, optional
        Renders conversations, in place of the model's own.
    prefix_cache_bytes : int
        Memory for what prompts begin with, for all plans together; 0 is none.
    make_extractor : callable
        As :class:`splinellm.extraction.SplineExtractor`.
    """

    def __init__(
        self,
        name: str,
        backbone: Backbone,
        *,
        limits: EngineLimits,
        listener: EngineListener,
        max_tokens: int,
        allow_special_tokens: bool = False,
        chat_template: str | None = None,
        prefix_cache_bytes: int = 0,
        make_extractor: Callable[..., SplineExtractor] = SplineExtractor,
    ) -> None:
        self.name = name
        self.backbone = backbone
        self.created = int(time.time())
        self.max_tokens = min(max_tokens, backbone.max_positions or max_tokens)
        self.engine = Engine(name, self.reader, limits, listener)
        self._allow_special_tokens = allow_special_tokens
        self._chat_template = chat_template
        self.prefix_cache: PrefixCache | None = None
        if prefix_cache_bytes and not backbone.architecture.is_encoder:
            self.prefix_cache = PrefixCache(prefix_cache_bytes)
        self._make_extractor = make_extractor
        self._tokenizers: dict[tuple[bool, Count], Tokenizer] = {}
        self._extractors: OrderedDict[Plan, SplineExtractor] = OrderedDict()
        self._lock = Lock()
        tokenizer = self._tokenizer(allow_special_tokens)
        self.prefix = tuple(tokenizer.prefix)
        """Token ids that every text starts with."""
        self.suffix = tuple(tokenizer.suffix)
        """Token ids that every text ends with, however it is cut."""

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return self.backbone.n_layers

    @property
    def n_vocabulary(self) -> int:
        """Token ids are below this."""
        return self.backbone.n_vocabulary

    def plan(
        self,
        layers: str | int | Iterable[int] | None = None,
        features: str | Iterable[str] | None = None,
        max_tokens: int | None = None,
        granularity: Granularity = "prompt",
        count: Count = "all",
    ) -> Plan:
        """Make the plan of a request.

        Parameters
        ----------
        layers, features
            See :class:`splinellm.extraction.SplineExtractor`; by default ``paper``, or ``spline``
            where the attention cannot be seen.
        max_tokens : int, optional
            The model's limit by default.
        granularity : {"prompt", "prefix", "token"}
            What a row stands for.
        count : str
            Tokens of a conversation that the statistics are over.

        Raises
        ------
        SchemaError
            A layer or feature does not exist, or `max_tokens` is out of range.
        PrefixUnavailableError
            Prefixes are wanted of an encoder.
        InvalidRequestError
            Prefixes are wanted, and not all of their tokens are to be counted.
        """
        self.backbone.architecture.require_granularity(granularity)
        if features is None:
            features = "paper" if self.backbone.architecture.shows_attention else "spline"
        limit = self.max_tokens
        if max_tokens is not None and not 1 <= max_tokens <= limit:
            raise SchemaError(f"max_tokens is {max_tokens}", hint=f"it can be 1 to {limit}")
        plan = Plan(
            parse_layers(layers, self.n_layers),
            FeatureSelection.parse(features),
            limit if max_tokens is None else max_tokens,
            allow_special_tokens=self._allow_special_tokens,
            granularity=granularity,
            count=count,
        )
        try:
            plan.require_countable(granularity)
        except ConfigurationError as error:  # of the request, not of the server
            raise InvalidRequestError(
                error.message, param="granularity", hint=error.hint
            ) from error
        self.extractor(plan)  # which knows what is impossible
        return plan

    def extractor(self, plan: Plan) -> SplineExtractor:
        """Make or find the extractor of a plan; all share the model.

        Plans that differ in nothing but what a row stands for have the same one, which has learnt
        for all of them how large a batch may be.
        """
        plan = replace(plan, granularity="prompt")
        with self._lock:
            if plan not in self._extractors:
                with warnings.catch_warnings():
                    # The provenance of every answer says it.
                    warnings.simplefilter("ignore", PrecisionWarning)
                    self._extractors[plan] = self._make_extractor(
                        self.backbone,
                        **plan.settings(),
                        batch_tokens=self.engine.limits.max_batch_tokens,
                        chat_template=self._chat_template,
                        prefix_cache=self.prefix_cache,
                    )
                self._extractors[plan].silence()  # what strangers send is no fault of the operator
            self._extractors.move_to_end(plan)
            if len(self._extractors) > MAX_EXTRACTORS:
                self._extractors.popitem(last=False)
            return self._extractors[plan]

    def reader(self, plan: Plan) -> Reader:
        """Give the engine what reads a plan's prompts."""
        if isinstance(plan, ScoringPlan):
            return ScoringReader(self.extractor(plan.features), plan)
        return self.extractor(plan)

    def provenance(self, plan: Plan) -> Provenance:
        """Tell what the numbers of a plan are."""
        return self.extractor(plan).provenance_at(plan.granularity)

    def tokenize(
        self, prompts: Sequence[Prompt], plan: Plan
    ) -> tuple[dict[int, TokenizedPrompt], dict[int, PromptError]]:
        """Tokenise as the plan says, but cut nothing: what is too long is for others to decide."""
        return self._tokenizer(plan.allow_special_tokens, plan.count)(prompts)

    def table(
        self,
        plan: Plan,
        windows: Sequence[TokenizedPrompt],
        rows: Mapping[int, Rows],
        prompts: Sequence[Prompt] = (),
    ) -> FeatureTable:
        """Make the table of what the engine computed.

        Parameters
        ----------
        plan : Plan
            What was computed.
        windows : sequence of TokenizedPrompt
            What the engine was given.
        rows : mapping of int to ndarray
            What it answered, by position among the windows.
        prompts : sequence of str or of sequences of int
            As :meth:`tokenize` took them; each window is the beginning of one. Needed where rows
            stand for tokens, to say where in the text they are.
        """
        tokenized = dict(enumerate(windows))
        tokens = None
        if plan.granularity != "prompt":
            tokenizer = self._tokenizer(plan.allow_special_tokens, plan.count)
            tokens = tokenizer.index({p: prompts[p] for p in sorted(rows)}, tokenized)
        return assemble(rows, tokenized, self.provenance(plan), tokens)

    def offsets(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """Where in its text each token is, in characters."""
        return self._tokenizer(self._allow_special_tokens).offsets(texts)

    def _tokenizer(self, allow_special_tokens: bool, count: Count = "all") -> Tokenizer:
        key = (allow_special_tokens, count)
        if key in self._tokenizers:
            return self._tokenizers[key]
        tokenizer = Tokenizer(
            self.backbone.tokenizer,
            self.backbone.n_vocabulary,
            sys.maxsize,
            allow_special_tokens=allow_special_tokens,
            keeps_end=self.backbone.architecture.is_encoder,
            count=count,
            chat_template=self._chat_template,
        )
        tokenizer.silence()
        return self._tokenizers.setdefault(key, tokenizer)
