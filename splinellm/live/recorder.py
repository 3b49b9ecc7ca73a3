"""Features of what the user's own transformers model reads and writes, while it does."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from os import PathLike
from types import TracebackType
from typing import Any, Literal, Self, cast

import numpy as np
import torch
from torch import nn

from splinellm.backbone.decoder import Decoder, decoder_inside
from splinellm.backbone.eager import run_eagerly
from splinellm.backbone.recorder import observe
from splinellm.errors import ConfigurationError, NonFiniteFeaturesError, NothingRecordedError
from splinellm.learn.artifact import as_classifier
from splinellm.learn.classifier import Classifier
from splinellm.live.generation import follow_generate
from splinellm.live.passes import Passes
from splinellm.live.token_scores import Score, ScoringReduction
from splinellm.plan import Plan
from splinellm.provenance import Provenance, distance_precision
from splinellm.schema import FeatureSchema, FeatureSelection, Granularity
from splinellm.table import FeatureTable
from splinellm.table_views import reading_in_words
from splinellm.token_index import NOWHERE, TokenIndex


def attach(
    model: nn.Module,
    *,
    classifier: Classifier | str | PathLike[str] | None = None,
    layers: str | Iterable[int] | None = None,
    features: str | Iterable[str] | FeatureSelection | None = None,
    dimension_rule: Literal["relative", "absolute"] = "relative",
    dimension_threshold: float = 0.1,
    granularity: Granularity = "prompt",
) -> LiveRecorder:
    """Watch a model of the user's own: in forward passes, and in the middle of ``generate``.

    The model computes exactly what it would compute without; nothing of it is changed once the
    ``with`` block is over.

    Parameters
    ----------
    model : Module
        Any transformers model that holds a supported decoder or encoder, such as those of
        ``AutoModelForCausalLM``, or a module around it: adapters, data-parallel wrappers, what
        ``torch.compile`` gives. Compiled code runs uncompiled within the block.
    classifier : Classifier, or its name or folder, optional
        Whose layers and features are recorded, and whose rule of the dimension; for
        :class:`splinellm.Guard`, which then needs nothing else.
    layers, features, dimension_rule, dimension_threshold
        See :class:`splinellm.extraction.SplineExtractor`; features are ``paper`` by default.
    granularity : {"prompt", "token"}
        What a row of the table stands for: a row of the batch, or every token of it that the model
        has read, with its own numbers.

    Returns
    -------
    LiveRecorder
        To be used in a ``with`` statement.

    Raises
    ------
    UnsupportedArchitectureError
        The model holds nothing of a supported architecture.
    SchemaError, ConfigurationError
        A layer or feature does not exist, or the threshold is impossible; or `model` is no module,
        or holds several of them.
    AttentionUnavailableError
        The dimension is wanted, and the architecture does not show its attention; on entry: the
        attention is neither SDPA nor eager.
    ConfigurationError
        On entry: the model is being watched already; one recorder takes all features.
    PrefixUnavailableError
        In ``generate``: the model is an encoder, whose every new token changes all others.

    Examples
    --------
    >>> with attach(model) as recorder:  # doctest: +SKIP
    ...     model.generate(**inputs, max_new_tokens=20)
    ...     recorder.table.array.shape
    (1, 30, 8)
    """
    if not isinstance(granularity, str) or granularity not in ("prompt", "token"):
        raise ConfigurationError(
            f"granularity '{str(granularity)[:40]}' cannot be watched",
            hint="prompt or token; the table of prompts after every step is that of a prefix",
        )
    decoder = decoder_inside(model)
    if classifier is not None:
        if layers is not None or features is not None:
            raise ConfigurationError(
                "a classifier says which layers and features are recorded",
                hint="give either the classifier or these",
            )
        settings = Plan.of(as_classifier(classifier).card.provenance)
        layers, features = settings.layers, settings.selection
        dimension_rule = cast(Any, settings.dimension_rule)
        dimension_threshold = settings.dimension_threshold
    plan = Plan.resolve(
        decoder,
        layers=layers,
        features="paper" if features is None else features,
        max_tokens=decoder.max_positions or sys.maxsize,  # nothing is cut
        dimension_rule=dimension_rule,
        dimension_threshold=dimension_threshold,
        allow_special_tokens=True,
    )
    return LiveRecorder(model, decoder, plan, granularity)


class LiveRecorder:
    """Features of the texts that a model has in its cache; made by :func:`attach`.

    A forward pass without a past begins anew. One that continues the cache of the last one, as in
    ``generate``, adds its tokens at a cost that does not grow with what came before. Once
    ``generate`` is done with a row, the row does not change any more. Padding, wherever the
    attention mask says it is, never counts. Beams that are reordered take their features along.

    Parameters
    ----------
    model : Module
        The user's model, with what is around it.
    decoder : Decoder
        What of it is watched.
    plan : Plan
        What is wanted; its token limit is the decoder's own, since nothing is cut.
    granularity : {"prompt", "token"}
        What a row of the table stands for.
    """

    def __init__(
        self,
        model: nn.Module,
        decoder: Decoder,
        plan: Plan,
        granularity: Granularity = "prompt",
    ) -> None:
        self._model = model
        self._decoder = decoder
        self._plan = plan
        self._reduction = ScoringReduction(plan.schema(decoder.n_layers), decoder.norms, plan.rule)
        self._attached = ExitStack()
        self._passes = Passes(decoder, self._reduction)
        self._table_plan = replace(plan, granularity=granularity)
        if granularity == "token":  # features of tokens are their scores as they are
            self.score_tokens(self, self._table_plan, lambda features: features)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({reading_in_words(self.provenance)})"

    def __enter__(self) -> Self:
        passes = Passes(self._decoder, self._reduction)
        with ExitStack() as stack, torch.no_grad():
            stack.enter_context(
                observe(
                    self._decoder.model,
                    self._decoder.architecture,
                    self._reduction,
                    passes.attendance,
                    implementation=self._decoder.attention_implementation,
                    stops=False,
                )
            )
            stack.enter_context(run_eagerly(self._model))
            stack.enter_context(passes.watch(self._model))
            stack.enter_context(follow_generate(self._model, passes))
            self._attached = stack.pop_all()
        self._passes = passes
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
        """Names and order of the table's features."""
        return self._table_plan.schema(self._decoder.n_layers)

    @property
    def n_columns(self) -> int:
        """Tokens that the model has read of each row, padding included."""
        return self._passes.progress.n_columns

    @property
    def n_prompt_columns(self) -> int:
        """Those of them that it had read when ``generate`` chose its first token."""
        return self._passes.progress.n_prompt_columns

    @property
    def n_tokens(self) -> np.ndarray:
        """Tokens that the features are of, shape (B,), int64."""
        n_tokens: np.ndarray = self._passes.recorded().n_tokens.cpu().numpy()
        return n_tokens

    @property
    def is_finished(self) -> np.ndarray:
        """Rows that do not change any more, shape (B,), bool."""
        is_finished: np.ndarray = self._passes.progress.is_finished.cpu().numpy()
        return is_finished

    @property
    def table(self) -> FeatureTable:
        """Features of every row of the batch, over all that the model has read of it.

        Of tokens, if these were asked for: all of the first row, then of the second, and so on.
        ``tokens`` tells row and position of each; its texts are empty, since a model has none.

        Raises
        ------
        NothingRecordedError
            There was no forward pass yet, or one that could not be recorded: it went on from
            another cache, left layers out, held several texts in a row or none, or ran in two
            threads.
        NonFiniteFeaturesError
            The forward pass overflowed in one of the rows.
        """
        state = self._passes.recorded()
        n_tokens = self.n_tokens
        if not n_tokens.all():
            raise NothingRecordedError(
                f"row {int(n_tokens.argmin())} holds no token: its mask is 0 everywhere",
                hint="leave such rows out",
            )
        if self._table_plan.granularity == "token":
            return self._table_of_tokens(n_tokens)
        values = self._reduction.features(state).flatten(1).numpy()
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
            raise self._overflow(row)
        return FeatureTable(values, n_tokens, np.zeros(len(n_tokens), np.bool_), self._computed)

    def _table_of_tokens(self, n_tokens: np.ndarray) -> FeatureTable:
        values = np.concatenate(self.token_scores(self)).astype(np.float32, copy=False)
        n_rows = len(values)
        nowhere = np.full(n_rows, NOWHERE, np.int64)
        row = np.repeat(np.arange(len(n_tokens)), n_tokens)
        position = np.concatenate([np.arange(n) for n in n_tokens.tolist()])
        tokens = TokenIndex(row, position, [""] * n_rows, nowhere, nowhere)
        never = np.zeros(n_rows, np.bool_)
        return FeatureTable(values, n_tokens[row], never, self._computed, tokens)

    @property
    def _computed(self) -> Provenance:
        """What the table comes from, with the dtype that the passes were computed in."""
        dtype = self._passes.conditions.dtype
        precision = distance_precision(self._plan.selection, dtype)
        return replace(self.provenance, dtype=dtype, distance_precision=precision)

    @property
    def provenance(self) -> Provenance:
        """What the table comes from; the weights are the user's, and are not hashed."""
        return self._table_plan.provenance(
            self._decoder,
            model=str(self._decoder.model.config._name_or_path),  # noqa: SLF001 - no public name
            attention=self._decoder.attention_implementation,
        )

    def score_tokens(self, owner: object, plan: Plan, score: Score) -> None:
        """Score single tokens from the next text on, as long as `owner` lives.

        Parameters
        ----------
        owner : object
            To ask with; see :meth:`token_scores`.
        plan : Plan
            What is scored: of granularity ``token``, with layers and features of the recorder's.
        score : callable
            From features (any, L * F) to scores (any, C).
        """
        self._reduction.score_tokens(owner, plan.schema(self._decoder.n_layers), score)

    def token_scores(self, owner: object) -> list[np.ndarray]:
        """Scores of every row's tokens, (T, C) each, over all that the model has read of it.

        Raises
        ------
        NothingRecordedError
            As for :attr:`table`, or they were asked for when the text had been begun.
        NonFiniteFeaturesError
            The forward pass overflowed in one of the rows.
        """
        scores = self._reduction.scores(owner, self._passes.recorded())
        for row, values in enumerate(scores):
            if not np.isfinite(values).all():
                raise self._overflow(row)
        return scores

    def finish(self, rows: Iterable[int]) -> None:
        """Freeze rows: what the model reads of them from now on does not count.

        Parameters
        ----------
        rows : iterable of int
            Rows of the batch, or a mask of them. They stay frozen until a forward pass begins
            anew.

        Raises
        ------
        NothingRecordedError
            There is no batch yet.
        ConfigurationError
            There is no such row.
        """
        self._passes.recorded()
        ended = torch.zeros(self._passes.progress.n_rows, dtype=torch.bool)
        try:
            given = torch.as_tensor(rows if isinstance(rows, torch.Tensor) else np.asarray([*rows]))
            is_number = not given.dtype.is_floating_point and given.dtype != torch.bool
            # Bytes, too, are numbers, and nothing at all is no row.
            ended[given.cpu().long() if is_number or not len(given) else given.cpu()] = True
        except (TypeError, IndexError):
            raise ConfigurationError(
                f"{str(rows)[:40]} does not name rows of the batch, which has {len(ended)}",
                hint=f"give a list of numbers from 0 to {len(ended) - 1}, or a mask",
            ) from None
        self._passes.progress.end(ended)

    def _overflow(self, row: int) -> NonFiniteFeaturesError:
        return NonFiniteFeaturesError.after_pass_in(self._decoder.dtype, index=row)
