"""The card of a trained classifier: everything that one must know of it before using it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from splinellm.conversations import is_conversation, with_texts
from splinellm.errors import LATER, ArtifactError, ChatTemplateError, ConfigurationError
from splinellm.learn.labels import Kind
from splinellm.learn.pooling import POOLING, Pooling
from splinellm.learn.predictions import scored_classes
from splinellm.normalisation import normalised, require_known
from splinellm.provenance import Provenance

CARD_VERSION = 1
"""Raised when a setting comes that changes verdicts: who does not know it would judge without it.

Arrays and fields that are not known are refused whatever the version.
"""
NORMALISATION = "normalisation"
"""Of a card's settings: the version of what texts are normalised by; without it, they are not."""


@dataclass(frozen=True)
class Card:
    """What one must know of a classifier before using it.

    Parameters
    ----------
    name : str
        Name of the classifier.
    kind : {"binary", "multiclass", "multilabel"}
        Of the task.
    classes : tuple of str
        Classes or labels, in the order of the probabilities.
    thresholds : dict of str to float
        Probability from which a class is said to be there, and in ``settings`` how it was chosen.
    provenance : Provenance
        Of the features that it was trained on; what it is applied to must match.
    data : dict
        Name, number of rows and sha256 of the training data.
    settings : dict
        Estimator, hyperparameters, calibration, normalisation of texts.
    metrics : dict
        Figures, with how they were measured.
    weaknesses : tuple of str
        What it is known to get wrong.
    libraries : dict of str to str
        Versions of the libraries that fitted it.
    classifier_sha256 : str
        Hash of ``classifier.skops``; set when saved.
    card_version : int
        Version of this format.
    """

    name: str
    kind: Kind
    classes: tuple[str, ...]
    thresholds: dict[str, float]
    provenance: Provenance
    data: dict[str, Any]
    settings: dict[str, Any]
    metrics: dict[str, Any]
    weaknesses: tuple[str, ...] = ()
    libraries: dict[str, str] = field(default_factory=dict)
    classifier_sha256: str = ""
    card_version: int = CARD_VERSION

    def __repr__(self) -> str:  # all of it, with every feature's name, is what `to_json` gives
        return f"Card({self.in_brief})"

    @property
    def in_brief(self) -> str:
        """What it is the card of, in a line."""
        classes = ", ".join(self.classes)
        return f"'{self.name}', {self.kind}: {classes}; reads {self.provenance.model}"

    @property
    def deciding_thresholds(self) -> dict[str, float]:
        """Thresholds by class; none of exclusive classes: the most probable one is chosen."""
        able = scored_classes(self.kind, self.classes)
        return {name: value for name, value in self.thresholds.items() if name in able}

    @property
    def normalisation(self) -> str | None:
        """Version of the normalisation that texts are given to the classifier in; None: as is."""
        version = self.settings.get(NORMALISATION)
        return None if version is None else str(version)

    @property
    def pooling(self) -> Pooling | None:
        """How the scores of a text's windows are pooled; None: a text has one row of features."""
        record = self.settings.get(POOLING)
        return None if record is None else Pooling.from_settings(record)

    @property
    def reads_texts(self) -> bool:
        """Whether it judges what is no conversation: of that there is only `all` to count."""
        return self.pooling is not None or self.provenance.count == "all"

    def of_conversations(self, option: str = "count") -> str:
        """Say why it reads no texts, for whoever refuses them; `option` is what users call it."""
        return f"'{self.name}' was trained on conversations ({option} {self.provenance.count})"

    def require_count(self, count: str | None, *, option: str = "count") -> None:
        """Refuse to count anything of conversations but what was counted when it was trained.

        Parameters
        ----------
        count : str, optional
            What is to be counted.
        option : str
            What users call it.

        Raises
        ------
        ConfigurationError
            It counts something else. Who pools scores of tokens reads whatever is said.
        """
        if self.pooling is None and count not in (None, "all", self.provenance.count):
            raise ConfigurationError(
                f"'{self.name}' was trained on {option} {self.provenance.count}, not on {count}",
                hint=f"leave {option} out: the card says what counts",
            )

    def require_prompts(
        self, *, are_messages: bool, count: str | None = None, chat_template: str | None = None
    ) -> None:
        """Refuse rows that it would refuse one by one, before there is any.

        Parameters
        ----------
        are_messages : bool
            Whether they hold conversations; texts otherwise.
        count : str, optional
            What of conversations.
        chat_template : str, optional
            What renders them, in place of the model's own.

        Raises
        ------
        ConfigurationError
            It judges conversations alone, or counts something else of them.
        ChatTemplateError
            Conversations were rendered with another template when it was trained.
        """
        self.require_count(count)
        if not are_messages and not self.reads_texts:
            raise ConfigurationError(
                self.of_conversations(),
                hint="name their column: messages_column, or --messages-column",
            )
        trained_with = self.provenance.chat_template_sha256
        if chat_template is None or not are_messages or self.pooling or not trained_with:
            return
        from splinellm.extraction.chat import template_sha256  # only where there is one

        if (given := template_sha256(chat_template)) != trained_with:
            raise ChatTemplateError(
                f"'{self.name}' was trained with the chat template of sha256 {trained_with[:16]}…, "
                f"and this one has {given[:16]}…",
                hint="give the one it was trained with",
            )

    def as_read(self, prompts: Iterable[Any]) -> list[Any]:
        """Prompts as the classifier reads them; texts are normalised, and token ids are not."""
        version = self.normalisation
        if version is None:
            return list(prompts)

        def as_read(prompt: Any) -> Any:
            if is_conversation(prompt):
                return with_texts(prompt, lambda text: normalised(text, version))
            return normalised(prompt, version) if isinstance(prompt, str) else prompt

        return [as_read(prompt) for prompt in prompts]

    def to_json(self) -> str:
        """Serialise, indented for readers."""
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Card:
        """Read what :meth:`to_json` wrote.

        Raises
        ------
        ArtifactError
            The text is no card of this version.
        TableFormatError
            The features are of another schema version.
        """
        try:
            record = json.loads(text)
            if record["card_version"] != CARD_VERSION:
                raise ArtifactError(
                    f"card version {record['card_version']} is not {CARD_VERSION}, this library's",
                    hint=LATER,
                )
            known = {field.name for field in dataclasses.fields(cls)}
            if more := sorted(set(record) - known):
                raise ArtifactError(f"the card holds something else: {more[0][:40]}", hint=LATER)
            record["provenance"] = Provenance.from_json(json.dumps(record["provenance"]))
            record["classes"] = tuple(record["classes"])
            record["weaknesses"] = tuple(record["weaknesses"])
            card = cls(**record)
            require_known(card.normalisation)
            is_pooled = card.pooling is not None
            if is_pooled != (card.provenance.granularity == "token"):
                raise ArtifactError(
                    f"the card's rows stand for {card.provenance.granularity}s, but it says "
                    f"{'how' if is_pooled else 'not how'} their scores are pooled"
                )
        except ConfigurationError as error:
            raise ArtifactError(error.message, hint=error.hint) from None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ArtifactError(f"card.json is unreadable: {error}") from error
        return card
