"""How texts are read whose tokens are scored: in pieces that fit the model, each token once.

Where pieces begin is decided by :func:`splinellm.learn.token_reading.read_tokens`, as in
``predict``, here over an extractor that numbers tokens instead of reading them. So everything is
known before the engine is asked, and all pieces of a request go to it together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from service.inputs import Inputs, blame
from service.reading import Overflow, Reading, too_many_tokens
from service.scoring import ScoringPlan
from splinellm.errors import PromptError
from splinellm.extraction.base import Extractor, KeyT, OnProgress
from splinellm.extraction.rows import Rows
from splinellm.extraction.tokens import TokenizedPrompt
from splinellm.learn.token_reading import TokenRows, read_tokens
from splinellm.prompts import Prompt
from splinellm.provenance import Provenance
from splinellm.schema import FeatureSelection, Granularity
from splinellm.token_index import TokenIndex

if TYPE_CHECKING:
    from service.served_model import ServedModel
    from splinellm.learn.pooled import Pooled


@dataclass(frozen=True)
class TokenReading(Reading):
    """Pieces to be read, and which of their tokens make each input.

    Parameters
    ----------
    windows, owners, n_tokens, truncated, names
        See :class:`service.reading.Reading`; windows are the pieces.
    tokens : list of TokenRows
        Of each input; a value is a token's number among those of all pieces.
    """

    tokens: list[TokenRows]

    def scores(
        self, rows: Mapping[int, Rows], plan: ScoringPlan, classifier: Pooled
    ) -> list[TokenRows]:
        """A classifier's scores of each input's tokens, from the rows of all pieces."""
        columns = plan.columns_of(classifier)
        found = np.concatenate([rows[i][:, columns] for i in range(len(self.windows))])
        return [replace(one, values=found[one.values]) for one in self.tokens]


def read_pieces(
    inputs: Inputs,
    prompts: Sequence[Prompt],
    model: ServedModel,
    plan: ScoringPlan,
    *,
    limit: int,
    overflow: Overflow,
    overlap: int,
) -> TokenReading:
    """Tokenise, cut into pieces, and apply the limit.

    Parameters
    ----------
    inputs : Inputs
        What they are called.
    prompts : sequence of str or of list of int
        Of the inputs, as the classifier reads them.
    model : ServedModel
        Whose tokenizer.
    plan : ScoringPlan
        Says how long a piece may be.
    limit : int
        Tokens from which on `overflow` decides.
    overflow : {"error", "truncate", "window"}
        Refuse a longer text, cut it, or read all of it.
    overlap : int
        Tokens that a piece reads again of the one before.

    Raises
    ------
    PromptError, InputTooLongError
        Names the first input that cannot be read.
    """
    numbers = _Numbering(model, plan)
    reading = TokenReading([], [], [], [], inputs.names, [])
    kept: list[np.ndarray] = []
    found = read_tokens(
        numbers,
        prompts,
        lambda table: table.values[:, 0].astype(np.int64),
        overflow="windows",
        overlap=overlap,
    )
    for position, tokens in found:
        name = inputs.names[position]
        if isinstance(tokens, PromptError):
            raise blame(tokens, name)
        is_cut = len(tokens) > limit and overflow == "truncate"
        if len(tokens) > limit and overflow == "error":
            raise too_many_tokens(name, len(tokens), limit, can_window=True)
        if is_cut:
            tokens = TokenRows(
                tokens.values[:limit], tokens.begin[:limit], tokens.end[:limit], truncated=True
            )
        pieces = numbers.pieces_of(tokens.values)
        kept.append(pieces)
        reading.owners.extend([position] * len(pieces))
        reading.n_tokens.append(len(tokens))
        reading.truncated.append(is_cut)
        reading.tokens.append(tokens)
    used = np.concatenate(kept)
    reading.windows.extend(numbers.pieces[i] for i in used.tolist())
    for i, tokens in enumerate(reading.tokens):
        reading.tokens[i] = replace(tokens, values=numbers.among(used, tokens.values))
    return reading


class _Numbering(Extractor):
    """Takes note of what is to be read, and gives every token a number instead of features.

    Numbers are exact: a request holds fewer than the 2^24 that float32 counts to.
    """

    def __init__(self, model: ServedModel, plan: ScoringPlan) -> None:
        # One column is enough for a number.
        one = replace(
            plan.features,
            layers=plan.layers[:1],
            selection=FeatureSelection.parse("sign_mean"),
            granularity="prompt",
        )
        self._extractor = model.extractor(one)
        self.schema = self._extractor.schema
        self.pieces: list[TokenizedPrompt] = []
        self._starts: list[int] = []
        self._n_tokens = 0

    @property
    def provenance(self) -> Provenance:
        """What tables come from, as the model's extractor says."""
        return self._extractor.provenance

    @property
    def identity(self) -> str:
        """Of the model, as its extractor says."""
        return self._extractor.identity

    def tokenize(
        self, prompts: Sequence[Prompt]
    ) -> tuple[dict[int, TokenizedPrompt], dict[int, PromptError]]:
        """Tokenise as the model's extractor does, cut to the limit of a piece."""
        return self._extractor.tokenize(prompts)

    def tokenize_whole(
        self, prompts: Sequence[Prompt]
    ) -> tuple[dict[int, TokenizedPrompt], dict[int, PromptError]]:
        """Tokenise as the model's extractor does, and cut nothing."""
        return self._extractor.tokenize_whole(prompts)

    @property
    def affixes(self) -> tuple[Sequence[int], Sequence[int]]:
        """Token ids around every text."""
        return self._extractor.affixes

    def token_index(
        self, prompts: Mapping[int, Prompt], tokenized: Mapping[int, TokenizedPrompt]
    ) -> TokenIndex:
        """Say where tokens are."""
        return self._extractor.token_index(prompts, tokenized)

    def read(
        self,
        prompts: Mapping[KeyT, TokenizedPrompt],
        *,
        granularity: Granularity = "prompt",  # noqa: ARG002 (always of tokens)
        on_progress: OnProgress | None = None,  # noqa: ARG002
    ) -> dict[KeyT, Rows | PromptError]:
        """Number the tokens."""
        found: dict[KeyT, Rows | PromptError] = {}
        for key, prompt in prompts.items():
            end = self._n_tokens + len(prompt.ids)
            found[key] = np.arange(self._n_tokens, end, dtype=np.float32)[:, None]
            self.pieces.append(TokenizedPrompt(prompt.ids, truncated=False))
            self._starts.append(self._n_tokens)
            self._n_tokens = end
        return found

    def pieces_of(self, numbers: np.ndarray) -> np.ndarray:
        """Positions of the pieces that some tokens are in, ascending."""
        return np.unique(np.searchsorted(self._starts, numbers, side="right") - 1)

    def among(self, pieces: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Number tokens anew where only some pieces are read, in this order."""
        lengths = np.array([len(self.pieces[i].ids) for i in pieces.tolist()], np.int64)
        shift = np.zeros(len(self.pieces), np.int64)
        begins = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        shift[pieces] = begins - np.array(self._starts, np.int64)[pieces]
        own = np.searchsorted(self._starts, numbers, side="right") - 1
        return np.asarray(numbers + shift[own])
