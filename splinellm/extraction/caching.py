"""An extractor that reads no prompt twice."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from splinellm.errors import ConfigurationError, PromptError
from splinellm.extraction.stores import DiskStore, MemoryStore, Store
from splinellm.prompts import Prompt, as_prompts
from splinellm.provenance import Provenance
from splinellm.schema import FeatureSchema
from splinellm.table import FeatureTable

if TYPE_CHECKING:
    from splinellm.extraction import SplineExtractor

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


class CachedExtractor:
    """Look features up by token ids, and compute only those that are not there.

    Parameters
    ----------
    extractor : SplineExtractor
        Computes what is missing.
    store : MemoryStore, DiskStore or the like
        Where rows are kept. Extractors of any settings may share one: a row is found again only
        by the same token ids under the same provenance, library versions included.

    Examples
    --------
    >>> cached = CachedExtractor(extractor, DiskStore())  # doctest: +SKIP
    >>> cached.extract(texts)  # the second time without a forward pass  # doctest: +SKIP
    """

    def __init__(self, extractor: SplineExtractor, store: Store) -> None:
        self.extractor = extractor
        self.store = store
        self._fingerprint = _fingerprint(extractor.provenance)

    @property
    def provenance(self) -> Provenance:
        """The extractor's provenance."""
        return self.extractor.provenance

    @property
    def schema(self) -> FeatureSchema:
        """The extractor's columns."""
        return self.extractor.schema

    def extract(
        self,
        prompts: str | Iterable[Prompt],
        *,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> FeatureTable:
        """Compute or look up the features of all prompts.

        See :meth:`splinellm.SplineExtractor.extract`.
        """
        table, errors = self.extract_valid(prompts, on_progress=on_progress)
        if errors:
            raise errors[min(errors)]
        return table

    def extract_valid(
        self,
        prompts: str | Iterable[Prompt],
        *,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> tuple[FeatureTable, dict[int, PromptError]]:
        """Compute or look up the features of those prompts that can be read.

        See :meth:`splinellm.SplineExtractor.extract_valid`. What needs no forward pass, found or
        repeated, is reported to `on_progress` first, all at once.
        """
        batch = as_prompts(prompts)
        tokenized, errors = self.extractor.tokenize(batch)
        keys = {position: self._key(tokenized[position].ids) for position in sorted(tokenized)}
        rows = self.store.get(set(keys.values()))
        missing = {
            key: tokenized[position].ids for position, key in keys.items() if key not in rows
        }

        if on_progress is not None and len(keys) > len(missing):
            n_all = sum(len(tokenized[position].ids) for position in keys)
            n_missing = sum(len(ids) for ids in missing.values())
            on_progress(len(keys) - len(missing), n_all - n_missing)
        failed: dict[bytes, PromptError] = {}
        remaining = iter(missing)
        while part := list(islice(remaining, _WINDOW)):
            table, faults = self.extractor.extract_valid(
                [missing[key] for key in part], on_progress=on_progress
            )
            failed |= {part[index]: fault for index, fault in faults.items()}
            read = [key for index, key in enumerate(part) if index not in faults]
            new = dict(zip(read, table.values, strict=True))
            self.store.put(new)
            rows |= new

        for position, key in keys.items():
            if key in failed:
                errors[position] = copy.copy(failed[key])  # one for each text that shares the ids
                errors[position].index = position
        kept = [position for position in keys if position not in errors]
        values = np.empty((len(kept), len(self.schema.names)), np.float32)
        for value, position in zip(values, kept, strict=True):
            value[:] = rows[keys[position]]
        # Not of the store: of two texts with the same ids, only one may have been cut.
        truncated = np.array([tokenized[position].truncated for position in kept], np.bool_)
        n_tokens = np.array([len(tokenized[position].ids) for position in kept], np.int64)
        return FeatureTable(values, n_tokens, truncated, self.provenance), errors

    def _key(self, ids: list[int]) -> bytes:
        return hashlib.sha256(self._fingerprint + np.array(ids, "<i8").tobytes()).digest()


def _fingerprint(provenance: Provenance) -> bytes:
    """Hash of all that changes a number: everything but the name the model was asked for by.

    Stricter than ``Provenance.first_difference``, which lets library versions differ: a row that
    is computed again costs little, and a table must not claim versions that did not compute it.
    """
    record = dataclasses.asdict(provenance)
    del record["model"]
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).digest()
