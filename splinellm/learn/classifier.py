"""A trained classifier."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING, Any, NoReturn, Self

import numpy as np

from splinellm.conversations import is_conversation
from splinellm.errors import ArtifactError, ConfigurationError
from splinellm.extraction.inspection import InspectedVerdict
from splinellm.learn.card import Card
from splinellm.learn.frozen import FrozenClassifier
from splinellm.learn.handed import WANTED, is_features, provenance_of, require_match, values_of
from splinellm.learn.lengths import warn_of_length
from splinellm.learn.predictions import Predictions, require_thresholds
from splinellm.learn.verdicts import Verdicts
from splinellm.prompts import Prompt, as_prompts
from splinellm.table import FeatureTable, schema_of

if TYPE_CHECKING:
    from splinellm.conversations import Count
    from splinellm.extraction import SplineExtractor
    from splinellm.extraction.base import Extractor, OnProgress
    from splinellm.extraction.windows import Overflow
    from splinellm.learn.metrics import Target


class NormalisationWarning(UserWarning):
    """A classifier that reads normalised texts is given features of texts as they were."""


class Classifier(FrozenClassifier):
    """Estimators with their card.

    Parameters
    ----------
    estimators : list
        Fitted scikit-learn classifiers: one, or one per label of a multi-label task.
    card : Card
        Everything about them.
    model : str, optional
        Where the card's model is, if not where it was when the classifier was trained.
    device : str, int or torch.device
        Where it computes; see :func:`splinellm.learn.backbones.shared_backbone`.
    chat_template : str, optional
        Renders conversations, in place of the model's own. One that was trained on conversations
        needs the template of then.
    """

    chat_template: str | None = None

    def __init__(
        self,
        estimators: list[Any],
        card: Card,
        *,
        model: str | None = None,
        device: str | int = "auto",
        chat_template: str | None = None,
    ) -> None:
        self.estimators = estimators
        self.card = card
        self.model = model
        self.device = device
        self.chat_template = chat_template

    def with_card(self, card: Card) -> Self:
        """The same estimators under another card."""
        made = type(self)(self.estimators, card, model=self.model, device=self.device)
        made.chat_template = self.chat_template
        return made

    def with_threshold(self, threshold: float | Mapping[str, float]) -> Self:
        """The same classifier with other thresholds: of all classes, or by class.

        Raises
        ------
        ConfigurationError
            There is no such class or none that has a threshold, or a number is no probability.
        """
        told = require_thresholds(self.card.kind, self.card.classes, threshold)
        return self.with_card(replace(self.card, thresholds={**self.card.thresholds, **told}))

    def with_target(
        self,
        X: Any,  # noqa: N803
        y: Any,
        target: Target,
        *,
        positive: str | None = None,
    ) -> Self:
        """The same classifier with thresholds that are chosen on labelled rows of one's own.

        Parameters
        ----------
        X : texts, conversations, or features
            See :meth:`predict`.
        y : array-like, shape (N,) or (N, C)
            Classes, or 0 and 1; of several labels a flag each.
        target : Target
            Such as ``Target("fpr", 0.01)``.
        positive : str, optional
            Of labels with other names, the one that stands for the second of two classes; all
            others stand for the first.

        Returns
        -------
        Classifier
            Its card has the figures on these rows, with bootstrap intervals; see :meth:`save`.
            Warns with a :class:`splinellm.learn.thresholds.ThresholdWarning` where the rows are too
            few, or were trained on.

        Raises
        ------
        LabelError
            A label is none of the classifier's.
        ConfigurationError
            No threshold reaches the target.
        """
        from splinellm.learn import thresholds  # which knows classifiers

        texts = [] if is_features(X) else as_prompts(X)
        if texts:  # a wrong label comes before the model reads anything
            thresholds.labels_for(self.card, y, len(texts), positive=positive)
        found = self.predict_features(X) if is_features(X) else self.predict_texts(texts)
        chosen, notes = thresholds.choose(
            self,
            found,
            thresholds.labels_for(self.card, y, len(found), positive=positive),
            target,
            data={"name": "one's own", "rows": len(found)},
            was_trained_on=thresholds.trained_on(
                self.card, [text for text in texts if isinstance(text, str)]
            ),
        )
        for note in notes:
            warnings.warn(note, thresholds.ThresholdWarning, stacklevel=2)
        return chosen

    def default_extractor(self, *, chat_template: str | None = None) -> SplineExtractor:
        """The extractor that the card describes, on the model that this process shares.

        Parameters
        ----------
        chat_template : str, optional
            Renders conversations; by default the classifier's own, else the model's. What counts of
            conversations is what the card says.

        Raises
        ------
        ChatTemplateError
            It cannot be parsed; or the classifier reads conversations, and there is none.
        """
        from splinellm.learn.backbones import shared_backbone, shared_extractor  # torch, only now

        source = self.card.provenance
        backbone = shared_backbone(self.model or source.model, source.dtype, self.device)
        template = self.chat_template if chat_template is None else chat_template
        return shared_extractor(backbone, source, template)

    def verdicts(
        self,
        prompts: Any,
        extractor: Extractor | None = None,
        *,
        overflow: Overflow = "windows",
        count: Count | None = None,
        on_progress: OnProgress | None = None,
    ) -> Verdicts:
        """Judge prompts, long ones in windows of which the worst decides; one may fail alone.

        Parameters
        ----------
        prompts, extractor, overflow
            See :meth:`predict_texts`.
        count : str, optional
            What of conversations; only classifiers that pool can be asked for another than the
            card's.
        on_progress : callable, optional
            See :meth:`splinellm.extraction.base.Extractor.extract`.

        Raises
        ------
        ArtifactError
            The extractor's features are not the classifier's.
        ConfigurationError
            What is to count is not what the classifier was trained on.
        """
        self.card.require_count(count)
        extractor = self.default_extractor() if extractor is None else extractor
        batch = as_prompts(prompts)
        if len(batch) != 1:  # what a single one is read with, its table says soon enough
            require_match(
                self.card.provenance,
                extractor.provenance,
                of_texts=not any(map(is_conversation, batch)),
            )
        read = extractor.extract_windows(
            self.card.as_read(batch), overflow=overflow, on_progress=on_progress
        )
        of_windows = self.predict_table(read.table)
        predictions = of_windows.of_texts(read.owners, read.table.n_tokens)
        warn_of_length(self.card, read.n_tokens)
        return Verdicts(predictions, read.n_tokens, read.truncated, read.errors)

    def inspect(self, prompt: Prompt) -> list[InspectedVerdict]:
        """Say what is found in one prompt; see :meth:`splinellm.SplineExtractor.inspect`."""
        extractor = self.default_extractor()
        table = extractor.extract(self.card.as_read([prompt]))
        return self._inspected(self.predict_table(table), [bool(table.truncated[0])])

    def _inspected(self, found: Predictions, truncated: Sequence[bool]) -> list[InspectedVerdict]:
        """A verdict for each row of predictions."""
        return [
            InspectedVerdict(
                self.card.name,
                tuple(name for name, holds in zip(found.classes, flags, strict=True) if holds)
                if found.kind == "multilabel"
                else (label,),
                dict(zip(found.classes, row.tolist(), strict=True)),
                self.card.deciding_thresholds,
                truncated=is_cut,
            )
            for label, flags, row, is_cut in zip(
                found.predicted, found.flags, found.probabilities, truncated, strict=True
            )
        ]

    def spans(self, texts: Any, *told: Any, **more: Any) -> NoReturn:  # noqa: ARG002
        """Refuse: it reads a text as a whole."""
        raise ConfigurationError(
            f"classifier '{self.card.name}' reads a text as a whole, and cannot say where in it a "
            "class is",
            hint="train one with --pool",
        )

    def predict_features(self, given: Any) -> Predictions:
        """Judge features: those of :meth:`predict_table`, or columns of them in a container.

        Raises
        ------
        ArtifactError, TableFormatError
            They are not the classifier's; names the first difference.
        """
        if self.card.normalisation is not None:
            warn_of_normalisation(self.card)
        if isinstance(given, FeatureTable):
            return self.predict_table(given)
        if (source := provenance_of(given)) is not None:
            require_match(self.card.provenance, source)
        values = values_of(given, schema_of(self.card.provenance).names)
        return self._predicted(self.probabilities(values))

    def predict_table(self, table: FeatureTable) -> Predictions:
        """Judge the rows of a feature table, whatever they are of.

        Parameters
        ----------
        table : FeatureTable
            With the classifier's columns, and possibly more layers or features; of texts that
            went through ``card.as_read``, which :meth:`predict_texts` does.

        Returns
        -------
        Predictions

        Raises
        ------
        ArtifactError
            The table comes from another model, dtype, or setting; names the first difference.
        """
        return self._predicted(self.probabilities(self.columns_of(table)))

    def _predicted(self, probabilities: np.ndarray) -> Predictions:
        return Predictions(self.card.kind, self.card.classes, probabilities, self.card.thresholds)

    def save(self, folder: str | PathLike[str]) -> Self:
        """Write a classifier folder; see :func:`splinellm.learn.artifact.save_classifier`."""
        from splinellm.learn.artifact import save_classifier  # which makes classifiers

        return save_classifier(self, folder)

    def probabilities(self, values: np.ndarray) -> np.ndarray:
        """Score the classifier's own columns, wherever they come from.

        Parameters
        ----------
        values : ndarray, shape (N, L * F)
            In the order of the card's layers and features, as :meth:`columns_of` gives them.

        Returns
        -------
        ndarray, shape (N, C)
            In the order of the card's classes.
        """
        if not len(values):  # scikit-learn refuses empty arrays
            return np.empty((0, len(self.card.classes)))
        if self.card.kind == "multilabel":
            return np.stack([e.predict_proba(values)[:, 1] for e in self.estimators], 1)
        probabilities: np.ndarray = self.estimators[0].predict_proba(values)
        return probabilities

    def columns_of(self, table: FeatureTable, *, ignoring: Collection[str] = ()) -> np.ndarray:
        """Select the columns that the classifier was trained on, shape (N, L * F), float32.

        Parameters
        ----------
        table : FeatureTable
            With those columns, and possibly more layers or features.
        ignoring : collection of str
            See :func:`require_match`.
        """
        if not isinstance(table, FeatureTable):
            raise ArtifactError(f"expected a FeatureTable, got {type(table).__name__}", hint=WANTED)
        require_match(self.card.provenance, table.provenance, ignoring=ignoring)
        names = schema_of(self.card.provenance).names
        if names == table.names:
            return table.values
        position = {name: i for i, name in enumerate(table.names)}
        return table.values[:, [position[name] for name in names]]


def warn_of_normalisation(card: Card) -> None:
    """Warn of features of texts as they were, which a classifier of normalised ones is given."""
    warnings.warn(
        f"classifier '{card.name}' reads normalised texts, but these features "
        "are of texts as they were; give it the texts",
        NormalisationWarning,
        stacklevel=3,
    )
