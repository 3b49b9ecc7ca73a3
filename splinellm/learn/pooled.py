"""Classifiers that read rows of tokens, score windows of them, and pool the scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from scipy.special import expit

from splinellm.conversations import Count, is_conversation, messages_of, require_count, said
from splinellm.errors import (
    ArtifactError,
    ConfigurationError,
    ConversationError,
    PromptError,
)
from splinellm.extraction.windows import Overflow, require_overflow
from splinellm.learn.classifier import Classifier, warn_of_normalisation
from splinellm.learn.handed import as_table, is_features, require_match
from splinellm.learn.lengths import warn_of_length
from splinellm.learn.marker import word_probabilities
from splinellm.learn.marking import WIDE, narrowed
from splinellm.learn.pooled_scorer import PooledScorer
from splinellm.learn.pooling import token_means
from splinellm.learn.predictions import DEFAULT_THRESHOLD, Predictions
from splinellm.learn.spans import Span, merged_spans, require_threshold
from splinellm.learn.token_reading import MIN_OVERLAP, TokenRows, read_tokens
from splinellm.learn.verdicts import Verdicts
from splinellm.normalisation import NormalisedText, normalise
from splinellm.prompts import as_prompts
from splinellm.token_index import NOWHERE

if TYPE_CHECKING:
    from splinellm.extraction.base import Extractor, OnProgress
    from splinellm.extraction.inspection import InspectedVerdict
    from splinellm.prompts import Prompt
    from splinellm.table import FeatureTable


@dataclass(frozen=True, eq=False)
class Judged:
    """What became of one text.

    Parameters
    ----------
    logits : ndarray, shape (C,)
        Of the text, for each class that is scored.
    of_tokens : ndarray, shape (T, C)
        Of its tokens: the means of the windows that hold them.
    begin, end : ndarray, shape (T,)
        Where these are in the text as it was given.
    truncated : bool
        Whether there was more.
    likely : callable, optional
        Tells how likely each token's word is to carry a class, shape (T,), where people marked such
        words; only spans ask.
    """

    logits: np.ndarray
    of_tokens: np.ndarray
    begin: np.ndarray
    end: np.ndarray
    truncated: bool
    likely: Callable[[], np.ndarray] | None = field(default=None, repr=False)  # it knows the text


class Pooled(Classifier):
    """A classifier whose card says ``granularity: token``, with one :class:`PooledScorer`.

    Parameters
    ----------
    estimators : list of PooledScorer
        One.
    card : Card
        Everything about it.
    """

    _fitting: int | None = None
    """Identity of the extractor that fitted last, for who asks again and again."""

    @property
    def scorer(self) -> PooledScorer:
        """The estimator."""
        scorer: PooledScorer = self.estimators[0]
        return scorer

    def verdicts(
        self,
        prompts: Any,
        extractor: Extractor | None = None,
        *,
        overflow: Overflow = "windows",
        count: Count | None = None,
        on_progress: OnProgress | None = None,
    ) -> Verdicts:
        """Judge texts, each read once; see :meth:`Classifier.verdicts`.

        Of a conversation the text is what is said in it, or what `count` says of that; see
        :func:`splinellm.conversations.said`.
        """
        judged: list[Judged] = []
        errors: dict[int, PromptError] = {}
        found = self.judge(
            as_prompts(prompts),
            extractor,
            overflow=overflow,
            count=count or "all",
            on_progress=on_progress,
        )
        for position, one in enumerate(found):
            if isinstance(one, PromptError):
                errors[position] = one
            else:
                judged.append(one)
        n_tokens = np.array([len(one.of_tokens) for one in judged], np.int64)
        warn_of_length(self.card, n_tokens)
        return Verdicts(
            self.predictions(judged),
            n_tokens,
            np.array([one.truncated for one in judged], np.bool_),
            errors,
            judged,
        )

    def spans(  # type: ignore[override]  # the base class refuses
        self,
        texts: Any,
        extractor: Extractor | None = None,
        *,
        threshold: float | None = None,
        overflow: Overflow = "windows",
        count: Count = "all",
    ) -> list[list[Span]]:
        """Say where in each text a class is.

        A token's score is the mean of the windows that hold it. Tokens from the threshold on make
        regions; the whole text is one if it reaches the threshold and none of its tokens does.
        Where people marked words for the training, regions are narrowed to the likeliest ones, and
        such words count from a tenth of the threshold on in a text where something reaches it; see
        :mod:`splinellm.learn.marking`.

        Parameters
        ----------
        texts, extractor, overflow, count
            See :meth:`predict_texts`.
        threshold : float, optional
            Probability; that of the class in the card by default.

        Returns
        -------
        list of list of Span
            For each text, by class and place.
        """
        require_threshold(threshold)
        if is_features(texts):
            raise ArtifactError("spans are places in texts, not in features", hint="give the texts")
        judged = self.verdicts(texts, extractor, overflow=overflow, count=count).complete().judged
        return [self.spans_of(one, threshold) for one in judged]

    def inspect(self, prompt: Prompt) -> list[InspectedVerdict]:
        """Say what is found in a text and where; of a conversation, in each message by itself."""
        if not is_conversation(prompt):
            return self._inspected_texts([prompt])
        messages = messages_of(prompt)
        spoken = [i for i, message in enumerate(messages) if message.text.strip()]
        found = self._inspected_texts([messages[i].text for i in spoken])
        return [replace(one, message=i) for i, one in zip(spoken, found, strict=True)]

    def _inspected_texts(self, texts: Sequence[Any]) -> list[InspectedVerdict]:
        judged = self.verdicts(texts).complete().judged if texts else []
        found = self._inspected(self.predictions(judged), [one.truncated for one in judged])
        return [
            replace(verdict, spans=tuple(span._asdict() for span in self.spans_of(one)))
            for verdict, one in zip(found, judged, strict=True)
        ]

    def predict_features(self, given: Any) -> Predictions:
        """Judge features of tokens; see :meth:`predict_table`."""
        if isinstance(given, np.ndarray):
            self.probabilities(given)
        if self.card.normalisation is not None and self.scorer.lexicon_ is None:
            warn_of_normalisation(self.card)
        return self.predict_table(as_table(given))

    def predict_table(self, table: FeatureTable) -> Predictions:
        """Classify the prompts of a table of tokens, each of which must be complete.

        Raises
        ------
        ArtifactError
            The table is of something else, or the classifier reads words as well.
        """
        values = self.columns_of(table)
        if self.scorer.lexicon_ is not None:
            raise ArtifactError(
                f"classifier '{self.card.name}' reads words beside features",
                hint="give it the texts",
            )
        assert table.tokens is not None  # noqa: S101 (of granularity token)
        logits = self.scorer.logits(values)
        _, first = np.unique(table.tokens.row, return_index=True)
        judged = []
        for rows in np.split(np.arange(len(table)), first[1:]) if len(table) else []:
            at = table.tokens.begin[rows], table.tokens.end[rows]
            judged.append(self._judged(TokenRows(logits[rows], *at, False), None, None))
        return self.predictions(judged)

    def probabilities(self, values: np.ndarray) -> NoReturn:  # noqa: ARG002 (the base class')
        """Refuse: rows of tokens mean nothing without knowing which text each is of."""
        raise ConfigurationError(
            f"classifier '{self.card.name}' pools the scores of a text's tokens",
            hint="give it the texts, or a FeatureTable of their tokens",
        )

    @property
    def overlap(self) -> int:
        """Tokens that a piece of a long text reads again of the one before."""
        return max(MIN_OVERLAP, self.scorer.window or 0)

    def judge(
        self,
        texts: Sequence[Any],
        extractor: Extractor | None = None,
        *,
        overflow: Overflow = "windows",
        count: Count = "all",
        on_progress: OnProgress | None = None,
    ) -> Iterator[Judged | PromptError]:
        """Read texts and judge them in order; one bad text fails alone."""
        require_overflow(overflow)
        texts, bad = _texts_of(texts, count)
        if extractor is None:  # of the card's settings; of which weights, every table says
            extractor = self.default_extractor()
        else:
            self._require_reader(extractor, is_single=len(texts) == 1)
        originals = [self._as_read(text) for text in texts]
        prompts = [one.text if isinstance(one, NormalisedText) else one for one in originals]
        for position, rows in read_tokens(
            extractor,
            prompts,
            lambda table: self.scorer.logits(self.columns_of(table)),
            overflow=overflow,
            overlap=self.overlap,
            on_progress=on_progress,
        ):
            if position in bad:
                yield bad[position]
            elif isinstance(rows, PromptError):
                yield rows
            else:
                yield self._judged_as_read(rows, originals[position], position)

    def _require_reader(self, extractor: Extractor, *, is_single: bool) -> None:
        """Refuse an extractor of other features.

        To look at the model takes as long as to read some tokens: one that fitted is asked no more
        before a single text, whose table says soon enough whether the model has changed.
        """
        if not is_single or self._fitting != id(extractor):
            require_match(self.card.provenance, extractor.provenance_at("token"))
            self._fitting = id(extractor)

    def judged(self, tokens: TokenRows, text: Any, position: int = 0) -> Judged | PromptError:
        """Judge a text whose tokens have been read.

        Parameters
        ----------
        tokens : TokenRows
            With :meth:`PooledScorer.logits` as values, of what ``card.as_read`` makes of the text.
        text : str
            As it was given; or token ids.
        position : int
            Of the text, for an error.
        """
        return self._judged_as_read(tokens, self._as_read(text), position)

    def predictions(self, judged: Sequence[Judged]) -> Predictions:
        """Probabilities and decisions of texts."""
        card = self.card
        n_scored = 1 if card.kind == "binary" else len(card.classes)
        logits = np.array([one.logits for one in judged]).reshape(len(judged), n_scored)
        return Predictions(
            card.kind, card.classes, probabilities_of(card.kind, logits), card.thresholds
        )

    def spans_of(self, judged: Judged, threshold: float | None = None) -> list[Span]:
        """Merge a text's tokens from the threshold on; see :meth:`spans`."""
        spans: list[Span] = []
        probabilities = expit(judged.of_tokens)
        of_text = expit(judged.logits)
        for column, label in enumerate(self._scored):
            limit = self.card.thresholds.get(label, DEFAULT_THRESHOLD)
            limit = limit if threshold is None else threshold
            scores = probabilities[:, column]
            inside = scores >= limit
            if of_text[column] >= limit and not inside.any():
                inside[:] = True
            if judged.likely is not None and inside.any():
                inside = narrowed(inside, judged.likely(), scores >= WIDE * limit)
            spans += merged_spans(judged.begin, judged.end, scores, inside, label)
        return spans

    @property
    def _scored(self) -> tuple[str, ...]:
        return self.card.classes[1:] if self.card.kind == "binary" else self.card.classes

    def _as_read(self, text: Any) -> Any:
        if self.card.normalisation is None or not isinstance(text, str):
            return self.card.as_read([text])[0]
        return normalise(text, self.card.normalisation)

    def _judged_as_read(
        self, tokens: TokenRows, original: Any, position: int
    ) -> Judged | PromptError:
        origin = original if isinstance(original, NormalisedText) else None
        text = original if origin is None else origin.text
        if self.scorer.lexicon_ is not None and not isinstance(text, str):
            given = "conversations" if is_conversation(text) else "token ids"
            return PromptError(
                f"classifier '{self.card.name}' reads words, not {given}",
                index=position,
                hint="give it texts",
            )
        return self._judged(tokens, text, origin)

    def _judged(self, tokens: TokenRows, text: Any, origin: NormalisedText | None) -> Judged:
        channels, bounds = self.scorer.channels(tokens, text)
        scores = self.scorer.summed(channels)
        of_tokens = token_means(self.scorer.calibrated(scores), bounds)
        begin, end = tokens.begin, tokens.end
        if not isinstance(text, str):  # places in messages, or none: the prompt has no text
            begin = end = np.full(len(tokens), NOWHERE)
        likely = None
        if self.scorer.marker_ is not None and isinstance(text, str):
            marker, around = self.scorer.marker_, self.scorer.lexicon_
            likely = partial(word_probabilities, marker, text, begin, end, around)
        if origin is not None:
            places = [
                origin.original_span(a, b) if 0 <= a < b else (-1, -1)
                for a, b in zip(begin.tolist(), end.tolist(), strict=True)
            ]
            begin, end = np.array(places, np.int64).reshape(-1, 2).T
        return Judged(self.scorer.pooled(scores), of_tokens, begin, end, tokens.truncated, likely)


def _texts_of(prompts: Sequence[Any], count: Count) -> tuple[list[Any], dict[int, PromptError]]:
    """Prompts, with what is said in conversations in their place; and those that say nothing."""
    require_count(count)
    texts = list(prompts)
    bad: dict[int, PromptError] = {}
    for position, prompt in enumerate(texts):
        if is_conversation(prompt):
            try:
                texts[position] = said(prompt, count)
            except ConversationError as error:
                texts[position] = "-"  # read for nobody: the others keep their places
                bad[position] = error.at(position)
    return texts, bad


def probabilities_of(kind: str, logits: np.ndarray) -> np.ndarray:
    """Probabilities (N, classes) of calibrated logits (N, scored classes)."""
    scores = expit(logits)
    if kind == "binary":
        return np.concatenate([1.0 - scores, scores], axis=1)
    if kind == "multiclass":
        # Each class against the rest was calibrated on its own; a text has one.
        scores = scores / np.maximum(scores.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    return np.asarray(scores)
