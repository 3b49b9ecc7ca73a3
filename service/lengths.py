"""Texts that are far longer than those a classifier was tried on: the log tells once of each."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from splinellm.learn.lengths import far_beyond

if TYPE_CHECKING:
    from splinellm.learn.card import Card


_logger = logging.getLogger(__name__)


class LengthLog:
    """Takes note of lengths, and of no text."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def note(self, card: Card, n_tokens: Sequence[int]) -> None:
        """Log the first text that is far longer than a classifier was tried on.

        Parameters
        ----------
        card : Card
            The classifier's.
        n_tokens : sequence of int
            Lengths of the texts of a request.
        """
        if card.name in self._told:
            return
        end = far_beyond(card, np.array(n_tokens, np.int64))
        if end is not None:
            self._told.add(card.name)
            fields = {"classifier": card.name, "tried_up_to": end, "n_tokens": max(n_tokens)}
            _logger.warning("longer_than_tried", extra={"fields": fields})
