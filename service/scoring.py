"""Plans whose rows of tokens become scores in the engine's thread, so that nobody holds the rows.

A row has thousands of numbers and its scores are a few: a request of many long texts would
otherwise keep gigabytes until the last of them is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from splinellm.errors import PromptError
from splinellm.extraction.base import KeyT
from splinellm.extraction.rows import Rows
from splinellm.extraction.tokens import TokenizedPrompt
from splinellm.plan import Plan
from splinellm.schema import Granularity
from splinellm.table import schema_of

if TYPE_CHECKING:
    from splinellm.extraction import SplineExtractor
    from splinellm.learn.pooled import Pooled


@dataclass(frozen=True)
class ScoringPlan(Plan):
    """What to compute of tokens, and whose scores to make of it.

    Parameters
    ----------
    layers, selection, max_tokens, dimension_rule, dimension_threshold, allow_special_tokens, \
granularity, count
        See :class:`splinellm.plan.Plan`; the granularity is ``token``.
    scored : tuple of Pooled
        A row has the scores of the first, then those of the next.
    """

    scored: tuple[Pooled, ...] = ()

    @classmethod
    def for_classifier(cls, classifier: Pooled) -> ScoringPlan:
        """Make the plan of one classifier's card."""
        plan = Plan.of(classifier.card.provenance)
        return cls(**_fields_of(plan), scored=(classifier,))

    @property
    def features(self) -> Plan:
        """The plan of the rows that are scored."""
        return Plan(**_fields_of(self))

    @property
    def n_columns(self) -> int:
        """Scores of a token."""
        return sum(len(one.scorer.coef_) for one in self.scored)

    def union(self, other: Plan) -> ScoringPlan:
        """Make a plan that serves the classifiers of both; see :meth:`Plan.union`."""
        more = other.scored if isinstance(other, ScoringPlan) else ()
        plan = Plan.union(self, other)
        assert isinstance(plan, ScoringPlan)  # noqa: S101 (it is a changed copy)
        return replace(plan, scored=(*self.scored, *more))

    def columns_of(self, classifier: Pooled) -> slice:
        """Where in a row a classifier's scores are."""
        begin = 0
        for one in self.scored:
            end = begin + len(one.scorer.coef_)
            if one.scorer is classifier.scorer:  # which another threshold leaves as it is
                return slice(begin, end)
            begin = end
        raise ValueError("the plan does not score this classifier")


def _fields_of(plan: Plan) -> dict[str, Any]:
    return {field.name: getattr(plan, field.name) for field in fields(Plan)}


class ScoringReader:
    """Reads rows of tokens and gives their scores.

    Parameters
    ----------
    extractor : SplineExtractor
        Of the plan's features.
    plan : ScoringPlan
        Whose scores.
    """

    def __init__(self, extractor: SplineExtractor, plan: ScoringPlan) -> None:
        self._extractor = extractor
        self._plan = plan
        names = schema_of(extractor.provenance_at("token")).names
        position = {name: i for i, name in enumerate(names)}
        self._columns: list[list[int] | None] = []
        for one in plan.scored:
            own = schema_of(one.card.provenance).names
            self._columns.append(None if own == names else [position[name] for name in own])

    @property
    def batch_tokens(self) -> int:
        """Padded tokens of a batch; the extractor's own."""
        return self._extractor.batch_tokens

    @batch_tokens.setter
    def batch_tokens(self, batch_tokens: int) -> None:
        self._extractor.batch_tokens = batch_tokens

    def read(
        self, prompts: Mapping[KeyT, TokenizedPrompt], /, *, granularity: Granularity
    ) -> dict[KeyT, Rows | PromptError]:
        """Scores of each prompt's tokens, shape (T, C of all classifiers), or why it has none."""
        found = self._extractor.read(prompts, granularity=granularity)
        return {
            key: rows if isinstance(rows, PromptError) else self._scores(rows)
            for key, rows in found.items()
        }

    def _scores(self, rows: Rows) -> Rows:
        parts = [
            one.scorer.logits(rows if columns is None else rows[:, columns])
            for one, columns in zip(self._plan.scored, self._columns, strict=True)
        ]
        return np.concatenate(parts, axis=1)
