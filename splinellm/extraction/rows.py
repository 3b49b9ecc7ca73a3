"""The rows of one prompt, and the table that the rows of many make."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from splinellm.extraction.tokens import TokenizedPrompt
from splinellm.provenance import Provenance
from splinellm.schema import Granularity
from splinellm.table import FeatureTable, schema_of
from splinellm.token_index import TokenIndex

Rows = np.ndarray
"""What was computed of one prompt, shape (R, L * F), float32: one row, or one for each token."""


def n_rows(prompt: TokenizedPrompt, granularity: Granularity) -> int:
    """Rows R that a prompt has."""
    return 1 if granularity == "prompt" else len(prompt.ids)


def assemble(
    rows: Mapping[int, Rows],
    tokenized: Mapping[int, TokenizedPrompt],
    provenance: Provenance,
    tokens: TokenIndex | None = None,
) -> FeatureTable:
    """Make the table of prompts that were read.

    Parameters
    ----------
    rows : mapping of int to ndarray, shape (R, L * F), float32
        By position among the prompts given, in any order; those that could not be read are left
        out.
    tokenized : mapping of int to TokenizedPrompt
        Of at least the same prompts.
    provenance : Provenance
        What the rows come from; of texts alone, the table's names no chat template.
    tokens : TokenIndex, optional
        Of exactly these prompts in ascending order, where rows stand for tokens or prefixes.

    Raises
    ------
    ValueError
        A prompt has a row too many or too few, or another one's tokens.
    """
    kept = sorted(rows)
    prompts = [tokenized[position] for position in kept]
    if not any(prompt.is_rendered for prompt in prompts):
        provenance = provenance.of_texts
    granularity = provenance.granularity
    counts = np.array([n_rows(prompt, granularity) for prompt in prompts], np.int64)
    # A row more or less must not give anyone another one's features.
    if [len(rows[position]) for position in kept] != counts.tolist():
        raise ValueError(f"not one row per {granularity} of each prompt")
    if tokens is not None and not np.array_equal(tokens.row, np.repeat(kept, counts)):
        raise ValueError("the tokens are those of other prompts")
    n_tokens = np.repeat(np.array([len(prompt.ids) for prompt in prompts], np.int64), counts)
    if tokens is not None and granularity == "prefix":
        n_tokens = tokens.position + 1
    # Of each prompt itself: of two with the same ids, only one may have been cut.
    is_cut = np.array([prompt.truncated for prompt in prompts], np.bool_)
    parts = [rows[position] for position in kept]
    if tokens is not None and len(parts) == 1:
        values = parts[0]  # no copy: caches keep rows of prompts, and none of tokens
    else:
        empty = np.empty((0, len(schema_of(provenance).names)), np.float32)
        values = np.concatenate([empty, *parts])
    return FeatureTable(values, n_tokens, np.repeat(is_cut, counts), provenance, tokens)
