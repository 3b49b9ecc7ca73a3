"""An extractor that reads no prompt twice."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from itertools import islice

from splinellm.errors import ConfigurationError, PromptError
from splinellm.extraction.base import Extractor, KeyT, OnProgress
from splinellm.extraction.rows import Rows
from splinellm.extraction.stores import DiskStore, MemoryStore, Store
from splinellm.extraction.tokens import TokenizedPrompt
from splinellm.prompts import Prompt
from splinellm.provenance import Provenance
from splinellm.schema import Granularity
from splinellm.token_index import TokenIndex

_WINDOW = 1024
"""Prompts whose features are kept at once: what an interrupted run has to do again."""

_PROCESS_STORE = MemoryStore()
"""Shared by all that ask for ``"memory"``: clones, folds, pipelines."""


def shared_store(kind: str) -> MemoryStore | DiskStore:
    """Return the process's ``"memory"`` store, or the user's ``"disk"`` store.

    Raises
    ------
    ConfigurationError
        The kind is unknown, or the disk store cannot be opened.
    """
    if kind == "memory":
        return _PROCESS_STORE
    if kind == "disk":
        return DiskStore()
    raise ConfigurationError(
        f"unknown cache '{str(kind)[:80]}'", hint="use 'memory', 'disk' or None"
    )


class CachedExtractor(Extractor):
    """Look features up by token ids, and compute only those that are not there.

    Parameters
    ----------
    extractor : Extractor
        Tokenises, and computes what is missing.
    store : MemoryStore, DiskStore or the like
        Where rows are kept. Extractors of any settings may share one: a row is found again only
        by the same token ids under the same provenance, library versions included.

    Examples
    --------
    >>> cached = CachedExtractor(extractor, DiskStore())  # doctest: +SKIP
    >>> cached.extract(texts)  # the second time without a forward pass  # doctest: +SKIP
    """

    def __init__(self, extractor: Extractor, store: Store) -> None:
        self.extractor = extractor
        self.store = store
        self.schema = extractor.schema

    @property
    def provenance(self) -> Provenance:
        """What tables come from, as the extractor says."""
        return self.extractor.provenance

    @property
    def identity(self) -> str:
        """Of the model, as the extractor says."""
        return self.extractor.identity

    def tokenize(
        self, prompts: Sequence[Prompt]
    ) -> tuple[dict[int, TokenizedPrompt], dict[int, PromptError]]:
        """Tokenise as the extractor does."""
        return self.extractor.tokenize(prompts)

    def tokenize_whole(
        self, prompts: Sequence[Prompt]
    ) -> tuple[dict[int, TokenizedPrompt], dict[int, PromptError]]:
        """Tokenise as the extractor does, and cut nothing."""
        return self.extractor.tokenize_whole(prompts)

    @property
    def affixes(self) -> tuple[Sequence[int], Sequence[int]]:
        """Token ids around every text, as the extractor says."""
        return self.extractor.affixes

    def token_index(
        self, prompts: Mapping[int, Prompt], tokenized: Mapping[int, TokenizedPrompt]
    ) -> TokenIndex:
        """Say which tokens were read, as the extractor does."""
        return self.extractor.token_index(prompts, tokenized)

    def provenance_at(self, granularity: Granularity) -> Provenance:
        """What tables of this granularity come from, as the extractor says."""
        return self.extractor.provenance_at(granularity)

    def require_messages(self) -> None:
        """Refuse to read conversations, as the extractor does."""
        self.extractor.require_messages()

    def read(
        self,
        prompts: Mapping[KeyT, TokenizedPrompt],
        *,
        granularity: Granularity = "prompt",
        on_progress: OnProgress | None = None,
    ) -> dict[KeyT, Rows | PromptError]:
        """Look rows up, and have those computed that are not there.

        See :meth:`splinellm.extraction.base.Extractor.read`. What needs no forward pass, found or
        repeated, is reported to `on_progress` first, all at once. Rows that stand for tokens are
        not kept: they are as many as the tokens of all prompts.
        """
        if granularity != "prompt":
            return self.extractor.read(prompts, granularity=granularity, on_progress=on_progress)
        beginning = _fingerprint(self.provenance, self.identity)
        keys = {
            position: hashlib.sha256(beginning + prompt.key).digest()
            for position, prompt in prompts.items()
        }
        kept = self.store.get(set(keys.values()))
        missing = {key: prompts[position] for position, key in keys.items() if key not in kept}
        if on_progress is not None and len(keys) > len(missing):
            n_all = sum(len(prompt.ids) for prompt in prompts.values())
            n_missing = sum(len(prompt.ids) for prompt in missing.values())
            on_progress(len(keys) - len(missing), n_all - n_missing)
        found: dict[bytes, Rows | PromptError] = {key: row[None] for key, row in kept.items()}
        remaining = iter(missing)
        while part := list(islice(remaining, _WINDOW)):
            read = self.extractor.read({key: missing[key] for key in part}, on_progress=on_progress)
            self.store.put(
                {key: rows[0] for key, rows in read.items() if not isinstance(rows, PromptError)}
            )
            found |= read
        return {position: found[key] for position, key in keys.items()}


def _fingerprint(provenance: Provenance, identity: str) -> bytes:
    """Hash of all that changes a number: everything but the name the model was asked for by.

    Stricter than ``Provenance.first_difference``, which lets library versions differ: a row that
    is computed again costs little, and a table must not claim versions that did not compute it.
    """
    record = dataclasses.asdict(provenance)
    record["model"] = identity
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).digest()
