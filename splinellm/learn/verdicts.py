"""What a classifier says of prompts, and how much of each it has read.

Whoever asks (``predict`` on the command line, Python, the service) gets its verdicts from
:meth:`splinellm.learn.classifier.Classifier.verdicts` or from the two things that it is made of:
windows (:mod:`splinellm.extraction.windows`) and :meth:`Predictions.of_texts`; so one text has one
verdict everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from splinellm.learn.predictions import Predictions

if TYPE_CHECKING:
    from splinellm.errors import PromptError
    from splinellm.learn.pooled import Judged


@dataclass(frozen=True, eq=False)
class Verdicts:
    """Predictions for the prompts that could be read.

    Parameters
    ----------
    predictions : Predictions
        Of N prompts, in order.
    n_tokens : ndarray, shape (N,), int64
        Tokens that were read of each, those of overlapping windows once.
    truncated : ndarray, shape (N,), bool
        Whether there were more.
    errors : dict of int to PromptError
        Why others could not be read, by position among the prompts given.
    judged : sequence of Judged
        What became of each text, from a classifier that pools windows.
    """

    predictions: Predictions
    n_tokens: np.ndarray
    truncated: np.ndarray
    errors: dict[int, PromptError] = field(default_factory=dict)
    judged: Sequence[Judged] = field(default=(), repr=False)

    def complete(self) -> Verdicts:
        """Themselves, if there is one for every prompt.

        Raises
        ------
        PromptError
            Why the first has none; names its position.
        """
        if self.errors:
            raise self.errors[min(self.errors)]
        return self

    def columns(self) -> list[pa.Array]:
        """``n_tokens``, ``truncated``, and those of :meth:`Predictions.to_arrow`."""
        return [
            pa.array(self.n_tokens, pa.int64()),
            pa.array(self.truncated, pa.bool_()),
            *self.predictions.to_arrow().columns,
        ]
