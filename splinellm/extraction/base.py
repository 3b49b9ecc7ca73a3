"""The seam between prompts and tables: tokenise, read, assemble.

Who reads is an :class:`Extractor`: it tokenises prompts and gives rows for token ids. The way from
texts to a table is made of these two and :func:`splinellm.extraction.rows.assemble`, here and
nowhere else. What stands between them, such as a cache, is an extractor around another one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Protocol, TypeVar

import numpy as np

from splinellm.errors import PromptError
from splinellm.extraction.inspection import Inspection, Judge, inspection_of
from splinellm.extraction.rows import Rows, assemble
from splinellm.extraction.tokens import TokenizedPrompt
from splinellm.extraction.windows import Overflow, WindowedTable, require_overflow, windows_of
from splinellm.parameters import whole_from
from splinellm.prompts import Prompt, as_prompts, iter_prompts
from splinellm.provenance import Provenance
from splinellm.schema import FeatureSchema, Granularity
from splinellm.table import FeatureTable
from splinellm.token_index import TokenIndex

KeyT = TypeVar("KeyT", bound=Hashable)

OnProgress = Callable[[int, int], None]
"""Called after each batch with the prompts and tokens it held."""


class Reader(Protocol):
    """Reads token ids: all that is needed of an extractor by who has tokenised already."""

    batch_tokens: int
    """Largest padded size of a batch; running out of memory halves it."""

    def read(
        self,
        prompts: Mapping[KeyT, TokenizedPrompt],
        /,
        *,
        granularity: Granularity,
    ) -> dict[KeyT, Rows | PromptError]:
        """Rows of each prompt, or why it has none; see :meth:`Extractor.read`."""


class Extractor(ABC):
    """From prompts to tables, by a way of tokenising and one of reading.

    Attributes
    ----------
    schema : FeatureSchema
        Columns of tables whose rows stand for prompts.
    """

    schema: FeatureSchema

    @property
    @abstractmethod
    def provenance(self) -> Provenance:
        """What tables come from whose rows stand for prompts; of the model as it is now."""

    @abstractmethod
    def tokenize(
        self, prompts: Sequence[Prompt]
    ) -> tuple[dict[int, TokenizedPrompt], dict[int, PromptError]]:
        """Tokenise as :meth:`extract` does; see :class:`splinellm.extraction.tokens.Tokenizer`."""

    @abstractmethod
    def tokenize_whole(
        self, prompts: Sequence[Prompt]
    ) -> tuple[dict[int, TokenizedPrompt], dict[int, PromptError]]:
        """Tokenise in the same way, but cut nothing."""

    @property
    @abstractmethod
    def affixes(self) -> tuple[Sequence[int], Sequence[int]]:
        """Token ids that every text begins with, and those that it ends with however it is cut."""

    @abstractmethod
    def read(
        self,
        prompts: Mapping[KeyT, TokenizedPrompt],
        *,
        granularity: Granularity = "prompt",
        on_progress: OnProgress | None = None,
    ) -> dict[KeyT, Rows | PromptError]:
        """Compute the rows of prompts that are tokenised.

        Parameters
        ----------
        prompts : mapping of hashable to TokenizedPrompt
            By position, or whatever else tells them apart; of :meth:`tokenize`, or cut to the same
            limit and with ids of the same vocabulary.
        granularity, on_progress
            See :meth:`extract`.

        Returns
        -------
        dict
            For every prompt its rows, or an error without a position, in the order given. Equal
            prompts may share an array.
        """

    @abstractmethod
    def token_index(
        self, prompts: Mapping[int, Prompt], tokenized: Mapping[int, TokenizedPrompt]
    ) -> TokenIndex:
        """Say which tokens were read; see :meth:`splinellm.extraction.tokens.Tokenizer.index`."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """Of the model as it is now: rows of one identity and provenance may be kept as equal."""

    def provenance_at(self, granularity: Granularity) -> Provenance:
        """What tables of this granularity come from."""
        return self.provenance.at(granularity)

    def require_messages(self) -> None:  # noqa: B027 (nothing is against it)
        """Refuse to read conversations before there is any, for who knows that there will be."""

    def extract(
        self,
        prompts: str | Iterable[Prompt],
        *,
        granularity: Granularity = "prompt",
        on_progress: OnProgress | None = None,
    ) -> FeatureTable:
        """Compute the features of all prompts.

        Equal prompts are read once, and so is what many of them begin with.

        Parameters
        ----------
        prompts : str, or iterable of str or of sequences of int
            Texts or token ids.
        granularity : {"prompt", "prefix", "token"}
            ``prompt``: a row per prompt. ``prefix``: a row per token, with the features of the
            prompt up to and including it, from the same single forward pass. ``token``: a row per
            token, with its own sign fraction, hyperplane distance and intrinsic dimension.
        on_progress : callable, optional
            Called after each batch with the prompts and tokens it held.

        Returns
        -------
        FeatureTable
            One row per prompt, or per token with ``tokens`` saying which, in order.

        Raises
        ------
        PromptError
            A prompt cannot be read; names its position. See :meth:`extract_valid`.
        """
        table, errors = self.extract_valid(
            prompts, granularity=granularity, on_progress=on_progress
        )
        if errors:
            raise errors[min(errors)]
        return table

    def iter_extract(
        self,
        prompts: str | Iterable[Prompt],
        *,
        granularity: Granularity = "prompt",
        window: int = 1024,
    ) -> Iterator[FeatureTable]:
        """Compute features lazily, for iterables that do not fit memory.

        Parameters
        ----------
        prompts : str, or iterable of str or of sequences of int
            Consumed a window at a time.
        granularity : {"prompt", "prefix", "token"}
            See :meth:`extract`; ``tokens.row`` counts through all windows.
        window : int
            Prompts that are sorted by length and batched together.

        Yields
        ------
        FeatureTable
            Of up to `window` prompts, in order.

        Raises
        ------
        PromptError
            A prompt cannot be read; the windows before its own have been yielded.
        """
        window = whole_from(1, "window", window)
        iterator = iter_prompts(prompts)
        start = 0
        while part := list(islice(iterator, window)):
            table, errors = self.extract_valid(part, granularity=granularity)
            if errors:
                first = min(errors)
                raise errors[first].at(start + first)
            if table.tokens is not None:
                table = replace(table, tokens=replace(table.tokens, row=table.tokens.row + start))
            yield table
            start += len(part)

    def extract_valid(
        self,
        prompts: str | Iterable[Prompt],
        *,
        granularity: Granularity = "prompt",
        on_progress: OnProgress | None = None,
    ) -> tuple[FeatureTable, dict[int, PromptError]]:
        """Compute the features of those prompts that can be read; one bad prompt fails alone.

        Parameters
        ----------
        prompts, granularity, on_progress
            See :meth:`extract`.

        Returns
        -------
        table : FeatureTable
            The rows of all other prompts, in order.
        errors : dict of int to PromptError
            By position among the prompts.
        """
        batch = as_prompts(prompts)
        provenance = self.provenance_at(granularity)
        tokenized, errors = self.tokenize(batch)
        rows: dict[int, Rows] = {}
        found = self.read(tokenized, granularity=granularity, on_progress=on_progress)
        for position, result in found.items():
            if isinstance(result, PromptError):
                errors[position] = result.at(position)
            else:
                rows[position] = result
        tokens = None
        if granularity != "prompt":
            tokens = self.token_index({p: batch[p] for p in sorted(rows)}, tokenized)
        return assemble(rows, tokenized, provenance, tokens), errors

    def extract_windows(
        self,
        prompts: str | Iterable[Prompt],
        *,
        overflow: Overflow = "windows",
        on_progress: OnProgress | None = None,
    ) -> WindowedTable:
        """Compute the features of all of every prompt, of long ones in overlapping windows.

        What fits the token limit has the one row that :meth:`extract_valid` gives it.

        Parameters
        ----------
        prompts, on_progress
            See :meth:`extract`.
        overflow : {"windows", "error", "truncate"}
            What happens to a prompt beyond the limit.
        """
        require_overflow(overflow)
        batch = as_prompts(prompts)
        provenance = self.provenance
        limit = provenance.max_tokens
        prefix, suffix = self.affixes
        tokenized, errors = self.tokenize_whole(batch)
        windows: dict[tuple[int, int], TokenizedPrompt] = {}
        told: dict[int, tuple[int, bool]] = {}
        for position, prompt in tokenized.items():
            try:
                if overflow == "error" and len(prompt.ids) > limit:
                    raise PromptError(
                        f"the prompt has {len(prompt.ids)} tokens, but the limit is {limit}",
                        hint="texts can be read in windows",
                    )
                parts, n_tokens, is_cut = windows_of(
                    prompt,
                    limit=limit,
                    cuts=overflow == "truncate",
                    window=limit,
                    prefix=prefix,
                    suffix=suffix,
                )
            except PromptError as error:
                errors[position] = error.at(position)
                continue
            windows |= {(position, place): part for place, part in enumerate(parts)}
            told[position] = n_tokens, is_cut
        rows: dict[tuple[int, int], Rows] = {}
        for key, result in self._read_windows(windows, on_progress).items():
            if isinstance(result, PromptError):
                errors.setdefault(key[0], result.at(key[0]))
            else:
                rows[key] = result
        good = [position for position in sorted(told) if position not in errors]
        keys = [key for key in sorted(windows) if key[0] not in errors]
        table = assemble(
            {i: rows[key] for i, key in enumerate(keys)},
            {i: windows[key] for i, key in enumerate(keys)},
            provenance,
        )
        return WindowedTable(
            table,
            np.searchsorted(good, np.array([position for position, _ in keys], np.int64)),
            np.array([told[position][0] for position in good], np.int64),
            np.array([told[position][1] for position in good], np.bool_),
            errors,
        )

    def _read_windows(
        self,
        windows: Mapping[tuple[int, int], TokenizedPrompt],
        on_progress: OnProgress | None,
    ) -> dict[tuple[int, int], Rows | PromptError]:
        """Read the first window of every prompt, which is what progress counts, then the others."""
        first = {key: window for key, window in windows.items() if key[1] == 0}
        others = {key: window for key, window in windows.items() if key[1] > 0}
        found = self.read(first, on_progress=on_progress)
        if others:
            quiet = None
            if on_progress is not None:
                told = on_progress

                def quiet(n_prompts: int, n_tokens: int) -> None:  # noqa: ARG001 (counted above)
                    told(0, n_tokens)

            found |= self.read(others, on_progress=quiet)
        return found

    def inspect(self, prompt: Prompt, classifiers: Iterable[Judge] = ()) -> Inspection:
        """Look at one prompt: its features, those of its tokens, and what classifiers say.

        Parameters
        ----------
        prompt : str, sequence of int or conversation
            One.
        classifiers : iterable
            Such as :func:`splinellm.learn.artifact.load_classifier` gives; each reads the prompt
            with its own model.

        Returns
        -------
        Inspection

        Raises
        ------
        PromptError
            The prompt cannot be read.
        """
        granularities: tuple[Granularity, ...] = ("prompt", "token")
        tables: dict[str, FeatureTable] = {
            granularity: self.extract([prompt], granularity=granularity)
            for granularity in granularities
        }
        return inspection_of(prompt, tables, list(classifiers))
