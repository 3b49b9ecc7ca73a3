"""Everything that is known of one prompt, for those who look at it: data, and no rendering."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, Protocol

import numpy as np

from splinellm.conversations import is_conversation, messages_of
from splinellm.errors import ConfigurationError
from splinellm.prompts import Prompt
from splinellm.table import FeatureTable
from splinellm.token_index import NOWHERE

_FEWEST_CLASSES = 3
_LEAST = 0.005


_FEW_LAYERS = 6


def curve_places(n_layers: int) -> tuple[list[int], str]:
    """Places of the layers whose dimension is drawn by context, and what to say of a choice."""
    if n_layers <= _FEW_LAYERS:
        return list(range(n_layers)), ""
    return [0, n_layers // 2, n_layers - 1], "first, middle and last layer"


def shortest(values: np.ndarray) -> list[list[float]]:
    """Numbers of 32 bits as lists, each written as short as it can be told from others."""
    return [[float(str(value)) for value in row] for row in values]


@dataclass(frozen=True)
class InspectedVerdict:
    """What a classifier says of a prompt, or of one message of it.

    Parameters
    ----------
    classifier : str
        Its name.
    labels : tuple of str
        The class, or every label that holds; empty where none does.
    probabilities, thresholds : mapping of str to float
        By class; a class without a threshold is chosen where it is the most probable.
    spans : tuple of mapping, optional
        ``begin``, ``end``, ``label`` and ``score``, in code points; None if it does not tell.
    message : int, optional
        The message that it is of, from 0; None where it is of the whole prompt.
    truncated : bool
        Whether the end was not read.
    """

    classifier: str
    labels: tuple[str, ...]
    probabilities: Mapping[str, float]
    thresholds: Mapping[str, float]
    spans: tuple[Mapping[str, Any], ...] | None = None
    message: int | None = None
    truncated: bool = False

    def ranked(self) -> tuple[list[str], list[str]]:
        """Classes by probability: those to look at, and others that are all but impossible."""
        names = sorted(self.probabilities, key=lambda name: -self.probabilities[name])
        kept = [
            name
            for place, name in enumerate(names)
            if place < _FEWEST_CLASSES
            or self.probabilities[name] >= _LEAST
            or name in self.thresholds
            or name in self.labels
        ]
        return kept, [name for name in names if name not in kept]

    def telling_spans(self, text: str) -> list[Mapping[str, Any]]:
        """Spans of what was found; one of the whole text tells nothing that the verdict does not.

        Parameters
        ----------
        text : str
            What was judged.
        """
        size = len(text.strip())
        return [
            span
            for span in self.spans or ()
            if span["label"] in self.labels and span["end"] - span["begin"] < size
        ]


class Judge(Protocol):
    """A classifier."""

    def inspect(self, prompt: Prompt) -> list[InspectedVerdict]:
        """Say what it finds in a prompt."""


@dataclass(frozen=True, eq=False)
class Inspection:
    """One prompt, looked at.

    Parameters
    ----------
    texts : tuple of str
        Its text, or those of its messages; empty for token ids.
    roles : tuple of str or None
        Who says the messages; None where it is no conversation.
    prompt : FeatureTable
        One row.
    tokens : FeatureTable
        A row for each token; its intrinsic dimension is that of what it attends to: the context up
        to it, or all of the prompt where the model is an encoder.
    verdicts : tuple of InspectedVerdict
        Of the classifiers that were asked.
    """

    texts: tuple[str, ...] = field(repr=False)  # logs and tracebacks show what repr gives
    roles: tuple[str, ...] | None
    prompt: FeatureTable
    tokens: FeatureTable
    verdicts: tuple[InspectedVerdict, ...] = ()

    def _repr_html_(self) -> str:
        """The page of ``splinellm inspect --html`` in a frame, where its style touches nothing."""
        from splinellm.learn.inspection_page import page_of

        page = escape(page_of(self))
        style = "box-sizing:border-box;width:100%;height:40rem;border:1px solid #8888"
        return f'<iframe sandbox="allow-scripts" srcdoc="{page}" style="{style}"></iframe>'

    def to_dict(self, numbers: Callable[[np.ndarray], Any] = shortest) -> dict[str, Any]:
        """For JSON: what ``splinellm inspect --json`` prints.

        Parameters
        ----------
        numbers : callable
            What an array (L, F) becomes; lists of the shortest numbers by default.
        """
        index = self.tokens.tokens
        assert index is not None  # noqa: S101 (of granularity token)
        nowhere = [(None if b == NOWHERE else b) for b in index.begin.tolist()]
        ends = [(None if e == NOWHERE else e) for e in index.end.tolist()]
        tokens: list[dict[str, Any]] = [
            {"position": i, "token": token, "begin": begin, "end": end, "values": numbers(values)}
            for i, (token, begin, end, values) in enumerate(
                zip(index.token, nowhere, ends, self.tokens.array, strict=True)
            )
        ]
        if index.role is not None and index.message is not None:
            for one, role, message in zip(tokens, index.role, index.message.tolist(), strict=True):
                one |= {"role": role, "message": None if message == NOWHERE else message}
        provenance = self.prompt.provenance
        return {
            "object": "inspection",
            "model": provenance.model,
            "n_tokens": int(self.prompt.n_tokens[0]),
            "truncated": bool(self.prompt.truncated[0]),
            "layers": list(provenance.layers),
            "feature_names": list(provenance.features),
            "values": numbers(self.prompt.array[0]),
            "token_feature_names": list(self.tokens.provenance.features),
            "tokens": tokens,
            "verdicts": [
                {
                    "classifier": verdict.classifier,
                    "labels": list(verdict.labels),
                    "probabilities": dict(verdict.probabilities),
                    "thresholds": dict(verdict.thresholds),
                    "spans": None if verdict.spans is None else [dict(s) for s in verdict.spans],
                    "message": verdict.message,
                    "truncated": verdict.truncated,
                }
                for verdict in self.verdicts
            ],
        }


def inspection_of(
    prompt: Prompt, tables: Mapping[str, FeatureTable], judges: Sequence[Judge]
) -> Inspection:
    """Put together what was computed of a prompt.

    Parameters
    ----------
    prompt : str, sequence of int or conversation
        One.
    tables : mapping of str to FeatureTable
        Of granularity ``prompt`` and ``token``.
    judges : sequence of Judge
        Classifiers.
    """
    if len(tables["prompt"]) != 1:
        raise ConfigurationError(f"one prompt is inspected at a time, not {len(tables['prompt'])}")
    texts: tuple[str, ...] = (prompt,) if isinstance(prompt, str) else ()
    roles = None
    if is_conversation(prompt):
        messages = messages_of(prompt)
        texts = tuple(message.text for message in messages)
        roles = tuple(message.role for message in messages)
    verdicts = [verdict for judge in judges for verdict in judge.inspect(prompt)]
    return Inspection(texts, roles, tables["prompt"], tables["token"], tuple(verdicts))
