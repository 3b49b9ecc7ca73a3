"""Read prompts behind what is known of their beginnings."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from splinellm.backbone.block_reduction import BlockReduction
from splinellm.backbone.loading import Backbone
from splinellm.backbone.recorder import BlocksRead, Recorder
from splinellm.backbone.reduction import PromptState, Reduction, TokenReduction
from splinellm.backbone.shared_prefix import Beginning, Stacked
from splinellm.extraction.prefix_cache import (
    BLOCK_TOKENS,
    TOKEN_BLOCK_TOKENS,
    Block,
    PrefixCache,
    beginning_of,
)
from splinellm.extraction.reading import BatchReader, Reading, part_of, unless_out_of_memory
from splinellm.extraction.tokens import TokenizedPrompt
from splinellm.geometry import DimensionRule
from splinellm.schema import FeatureSchema


@dataclass
class _Work:
    """Prompts that are being read, and what is known of their beginnings."""

    prompts: Sequence[TokenizedPrompt]
    keys: list[list[bytes]]
    size: int
    """Tokens of a block."""
    fresh: dict[bytes, Block] = field(default_factory=dict)
    """Beginnings that several prompts share, held until all are read, whatever the budget."""


class PrefixReader(BatchReader):
    """A batch reader with a cache of beginnings.

    What prompts of one call share is read once and put into the cache like everything else: there
    the prompts find it.

    Parameters
    ----------
    backbone, rule, batch_tokens
        See :class:`splinellm.extraction.reading.BatchReader`.
    cache : PrefixCache
        Of this model.
    """

    def __init__(
        self, backbone: Backbone, rule: DimensionRule, batch_tokens: int, cache: PrefixCache
    ) -> None:
        super().__init__(backbone, rule, batch_tokens)
        self.cache = cache

    def read(
        self, prompts: Sequence[TokenizedPrompt], schema: FeatureSchema
    ) -> Generator[list[Reading]]:
        """Read prompts that are tokenised; see :meth:`BatchReader.read`."""
        backbone = self._backbone
        if schema.granularity == "prefix" or backbone.architecture.is_encoder:
            yield from super().read(prompts, schema)
            return
        backbone.look()  # blocks are found under what the model is now
        by_prompt = schema.granularity == "prompt"
        size = BLOCK_TOKENS if by_prompt else TOKEN_BLOCK_TOKENS
        plan = _plan_key(backbone, schema, self._rule)
        work = _Work(
            prompts, [self._keys(prompt, plan, size, by_prompt) for prompt in prompts], size
        )
        if not by_prompt and (known := self._all_known(work)) is not None:
            yield known  # and the model need not be watched
            return
        reduction: Reduction = (
            BlockReduction(schema, backbone.norms, self._rule, size)
            if by_prompt
            else TokenReduction(schema, backbone.norms, self._rule)
        )
        with (
            backbone.reading(),
            Recorder(backbone.model, backbone.architecture, reduction) as recorder,
        ):
            for group in self.groups(prompts, shares=True):
                if group.n_shared >= size:
                    self._read_shared(recorder, work, group.members, group.n_shared)
            for members, blocks in self._by_beginning(work):
                yield from self._read_behind(recorder, work, members, blocks)

    def _all_known(self, work: _Work) -> list[Reading] | None:
        """What becomes of prompts of which every token is known; None if one is not."""
        found = []
        for position, (prompt, keys) in enumerate(zip(work.prompts, work.keys, strict=True)):
            blocks = self.cache.get(keys)
            if len(blocks) * work.size < len(prompt.ids):
                return None
            found.append(Reading(position, _rows_of(blocks)))
        self.cache.n_found += sum(len(prompt.ids) for prompt in work.prompts)
        return found

    def _keys(
        self, prompt: TokenizedPrompt, plan: bytes, size: int, by_prompt: bool
    ) -> list[bytes]:
        keys = self.cache.keys(prompt, plan, size)
        # What a prompt's last token attends to is seen while it is read; rows of tokens are known.
        return keys[: (len(prompt.ids) - 1) // size] if by_prompt else keys

    def _read_shared(
        self, recorder: Recorder, work: _Work, members: Sequence[int], n_shared: int
    ) -> None:
        """Read the blocks that prompts share, unless all but one have been read already."""
        n_blocks = n_shared // work.size
        keys = work.keys[members[0]][:n_blocks]
        known = self._found(work, keys)
        if len(known) == len(keys):
            return
        begin, end = len(known) * work.size, len(keys) * work.size
        part = part_of(work.prompts[members[0]], begin, end)
        read = unless_out_of_memory(partial(self._run, recorder, [part], beginning_of(known)))
        if read is None:
            return  # no memory for it: each prompt on its own
        self.cache.n_read += len(part.ids)
        for place, key in enumerate(keys[len(known) :]):
            block = _block(read, 0, place, work.size)
            if block is None:
                return
            work.fresh[key] = block
            self.cache.put(key, block)
        work.fresh.update(zip(keys, known, strict=False))

    def _by_beginning(self, work: _Work) -> Iterator[tuple[list[int], list[Block]]]:
        """Prompts by the longest beginning that is known of them."""
        members: dict[bytes, list[int]] = {}
        for position, keys in enumerate(work.keys):
            n_known = len(self._found(work, keys))
            members.setdefault(keys[n_known - 1] if n_known else b"", []).append(position)
        for key, positions in members.items():
            blocks: list[Block] = []
            if key:
                keys = work.keys[positions[0]]
                # Anew, for those that were read meanwhile may have pushed some out.
                blocks = self._found(work, keys[: keys.index(key) + 1])
            yield positions, blocks

    def _read_behind(
        self, recorder: Recorder, work: _Work, members: Sequence[int], blocks: Sequence[Block]
    ) -> Iterator[list[Reading]]:
        n_known = len(blocks) * work.size
        rest = {position: part_of(work.prompts[position], n_known) for position in members}
        self.cache.n_found += n_known * len(members)
        self.cache.n_read += sum(len(prompt.ids) for prompt in rest.values())
        rows = _rows_of(blocks)
        if whole := [Reading(position, rows) for position, it in rest.items() if not it.ids]:
            yield whole
            rest = {position: it for position, it in rest.items() if it.ids}
        if not rest:
            return
        beginning = beginning_of(blocks)

        def values(positions: Sequence[int]) -> Tensor:
            read = self._run(recorder, [rest[position] for position in positions], beginning)
            for row, position in enumerate(positions):
                for place, key in enumerate(work.keys[position][len(blocks) :]):
                    if (block := _block(read, row, place, work.size)) is not None:
                        self.cache.put(key, block)
            return read.features

        for readings in self.in_batches(rest, n_known, values):
            yield [_behind(rows, reading) for reading in readings]

    def _found(self, work: _Work, keys: Sequence[bytes]) -> list[Block]:
        known = self.cache.get(keys)
        for key in keys[len(known) :]:
            if key not in work.fresh:
                break
            known.append(work.fresh[key])
        return known

    def _run(
        self,
        recorder: Recorder,
        prompts: Sequence[TokenizedPrompt],
        beginning: Beginning | None,
    ) -> BlocksRead:
        padded = self.pad([prompt.ids for prompt in prompts])
        return recorder.read_blocks(*padded, beginning, self.pad_counted(prompts))


def _block(read: BlocksRead, row: int, place: int, size: int) -> Block | None:
    """A block of a prompt on its own: what it was read with must not be kept alive by it.

    None for rows that are no numbers: which token is to blame is not known.
    """
    begin, end = place * size, (place + 1) * size
    known: PromptState | Tensor
    if read.states:
        state = read.states[place]
        if state.broken[row]:
            return None
        known = state[torch.tensor([row], device=state.broken.device)]
    else:
        known = read.features[row, begin:end].flatten(1).clone()
        if not known.isfinite().all():
            return None
    return Block(Stacked.of(read.keys_and_values, row, begin, end), known)


def _rows_of(blocks: Sequence[Block]) -> np.ndarray | None:
    """Rows of the tokens of blocks; None of none, and where blocks have none."""
    rows = [block.known.numpy() for block in blocks if isinstance(block.known, Tensor)]
    return np.concatenate(rows) if rows else None


def _behind(known: np.ndarray | None, reading: Reading) -> Reading:
    """Put rows of tokens that are known before those that were read."""
    if known is None or reading.rows is None:
        return reading
    return replace(reading, rows=np.concatenate([known, reading.rows]))


def _plan_key(backbone: Backbone, schema: FeatureSchema, rule: DimensionRule) -> bytes:
    """Tells apart what is computed, and by which model."""
    facts = (
        *(backbone.identity.key, backbone.dtype, rule),
        *(schema.layers, schema.selection, schema.granularity),
    )
    return hashlib.sha256(repr(facts).encode()).digest()
