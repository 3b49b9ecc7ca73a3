"""Classifiers that read rows of tokens, score windows of them, and pool the scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from scipy.special import expit

from splinellm.conversations import is_conversation, messages_of
from splinellm.errors import ArtifactError, ConfigurationError, PromptError
from splinellm.learn.classifier import Classifier, require_match
from splinellm.learn.marking import narrowed, word_probabilities
from splinellm.learn.pooled_scorer import PooledScorer
from splinellm.learn.pooling import token_means
from splinellm.learn.predictions import DEFAULT_THRESHOLD, Predictions
from splinellm.learn.spans import Span, merged_spans, require_threshold
from splinellm.learn.token_reading import (
    MIN_OVERLAP,
    Overflow,
    TokenRows,
    read_tokens,
    require_overflow,
)
from splinellm.normalisation import NormalisedText, normalise
from splinellm.prompts import as_prompts

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
    likely: Callable[[], np.ndarray] | None = None


class Pooled(Classifier):
    """A classifier whose card says ``granularity: token``, with one :class:`PooledScorer`.

    Parameters
    ----------
    estimators : list of PooledScorer
        One.
    card : Card
        Everything about it.
    """

    @property
    def scorer(self) -> PooledScorer:
        """The estimator."""
        scorer: PooledScorer = self.estimators[0]
        return scorer

    def predict_texts(
        self, texts: Any, extractor: Extractor | None = None, *, overflow: Overflow = "windows"
    ) -> Predictions:
        """Classify texts; each is read once.

        Parameters
        ----------
        texts : str or iterable of str
            As they are; they are normalised if the classifier reads such.
        extractor : Extractor, optional
            With the settings that ``Plan.of(card.provenance)`` gives, or more layers or features.
            The card's model is loaded, and shared, if none is given.
        overflow : {"windows", "error", "truncate"}
            What happens to a text beyond the card's token limit: it is read in pieces that overlap,
            refused, or cut.

        Raises
        ------
        PromptError
            A text cannot be read; names its position.
        ArtifactError
            The extractor's features are not the classifier's.
        """
        return self.predictions(self._good(texts, extractor, overflow))

    def spans(
        self,
        texts: Any,
        extractor: Extractor | None = None,
        *,
        threshold: float | None = None,
        overflow: Overflow = "windows",
    ) -> list[list[Span]]:
        """Say where in each text a class is.

        A token's score is the mean of the windows that hold it. Tokens from the threshold on make
        regions; the whole text is one if it reaches the threshold and none of its tokens does.
        Where people marked words for the training, a region is narrowed to its likeliest ones; see
        :mod:`splinellm.learn.marking`.

        Parameters
        ----------
        texts, extractor, overflow
            See :meth:`predict_texts`.
        threshold : float, optional
            Probability; that of the class in the card by default.

        Returns
        -------
        list of list of Span
            For each text, by class and place.
        """
        require_threshold(threshold)
        return [self.spans_of(one, threshold) for one in self._good(texts, extractor, overflow)]

    def inspect(self, prompt: Prompt) -> list[InspectedVerdict]:
        """Say what is found in a text and where; of a conversation, in each message by itself."""
        if not is_conversation(prompt):
            return self._inspected_texts([prompt])
        messages = messages_of(prompt)
        spoken = [i for i, message in enumerate(messages) if message.text.strip()]
        found = self._inspected_texts([messages[i].text for i in spoken])
        return [replace(one, message=i) for i, one in zip(spoken, found, strict=True)]

    def _inspected_texts(self, texts: Sequence[Any]) -> list[InspectedVerdict]:
        judged = self._good(texts, None, "windows") if texts else []
        found = self._inspected(self.predictions(judged), [one.truncated for one in judged])
        return [
            replace(verdict, spans=tuple(span._asdict() for span in self.spans_of(one)))
            for verdict, one in zip(found, judged, strict=True)
        ]

    def predict(self, table: FeatureTable) -> Predictions:
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
            hint="use predict or predict_texts",
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
        on_progress: OnProgress | None = None,
    ) -> Iterator[Judged | PromptError]:
        """Read texts and judge them in order; one bad text fails alone."""
        require_overflow(overflow)
        extractor = self.default_extractor() if extractor is None else extractor
        require_match(self.card.provenance, extractor.provenance_at("token"))
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
            if isinstance(rows, PromptError):
                yield rows
            else:
                yield self._judged_as_read(rows, originals[position], position)

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
            if judged.likely is not None:
                inside = narrowed(inside, judged.likely())
            spans += merged_spans(judged.begin, judged.end, scores, inside, label)
        return spans

    @property
    def _scored(self) -> tuple[str, ...]:
        return self.card.classes[1:] if self.card.kind == "binary" else self.card.classes

    def _good(self, texts: Any, extractor: Extractor | None, overflow: Overflow) -> list[Judged]:
        good = []
        for one in self.judge(as_prompts(texts), extractor, overflow=overflow):
            if isinstance(one, PromptError):
                raise one
            good.append(one)
        return good

    def _as_read(self, text: Any) -> Any:
        if self.card.normalisation is None or not isinstance(text, str):
            return text
        return normalise(text)

    def _judged_as_read(
        self, tokens: TokenRows, original: Any, position: int
    ) -> Judged | PromptError:
        origin = original if isinstance(original, NormalisedText) else None
        text = original if origin is None else origin.text
        if self.scorer.lexicon_ is not None and not isinstance(text, str):
            return PromptError(
                f"classifier '{self.card.name}' reads words, not token ids", index=position
            )
        return self._judged(tokens, text, origin)

    def _judged(self, tokens: TokenRows, text: Any, origin: NormalisedText | None) -> Judged:
        channels, bounds = self.scorer.channels(tokens, text)
        scores = self.scorer.summed(channels)
        of_tokens = token_means(self.scorer.calibrated(scores), bounds)
        begin, end = tokens.begin, tokens.end
        likely = None
        if self.scorer.marker_ is not None and isinstance(text, str):
            likely = partial(word_probabilities, self.scorer.marker_, text, begin, end)
        if origin is not None:
            places = [
                origin.original_span(a, b) if 0 <= a < b else (-1, -1)
                for a, b in zip(begin.tolist(), end.tolist(), strict=True)
            ]
            begin, end = np.array(places, np.int64).reshape(-1, 2).T
        return Judged(self.scorer.pooled(scores), of_tokens, begin, end, tokens.truncated, likely)


def probabilities_of(kind: str, logits: np.ndarray) -> np.ndarray:
    """Probabilities (N, classes) of calibrated logits (N, scored classes)."""
    scores = expit(logits)
    if kind == "binary":
        return np.concatenate([1.0 - scores, scores], axis=1)
    if kind == "multiclass":
        # Each class against the rest was calibrated on its own; a text has one.
        scores = scores / np.maximum(scores.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    return np.asarray(scores)
