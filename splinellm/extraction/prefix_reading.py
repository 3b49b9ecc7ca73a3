"""Read prompts behind what is known of their beginnings."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from splinellm.backbone.block_reduction import BlockReduction
from splinellm.backbone.loading import Backbone
from splinellm.backbone.recorder import BlocksRead, Recorder
from splinellm.backbone.shared_prefix import Beginning
from splinellm.extraction.prefix_cache import BLOCK_TOKENS, Block, PrefixCache, beginning_of
from splinellm.extraction.reading import BatchReader, Reading, part_of, unless_out_of_memory
from splinellm.extraction.tokens import TokenizedPrompt
from splinellm.geometry import DimensionRule
from splinellm.schema import FeatureSchema


@dataclass
class _Work:
    """Prompts that are being read, and what is known of their beginnings."""

    prompts: Sequence[TokenizedPrompt]
    keys: list[list[bytes]]
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
        if schema.granularity != "prompt" or backbone.architecture.is_encoder:
            yield from super().read(prompts, schema)
            return
        plan = _plan_key(backbone, schema, self._rule)
        work = _Work(prompts, [self.cache.keys(prompt, plan) for prompt in prompts])
        reduction = BlockReduction(schema, backbone.norms, self._rule, BLOCK_TOKENS)
        with (
            backbone.lock,
            torch.inference_mode(),
            Recorder(backbone.model, backbone.architecture, reduction) as recorder,
        ):
            for group in self.groups(prompts, shares=True):
                if group.n_shared >= BLOCK_TOKENS:
                    self._read_shared(recorder, work, group.members, group.n_shared)
            for members, blocks in self._by_beginning(work):
                yield from self._read_behind(recorder, work, members, blocks)

    def _read_shared(
        self, recorder: Recorder, work: _Work, members: Sequence[int], n_shared: int
    ) -> None:
        """Read the blocks that prompts share, unless all but one have been read already."""
        n_blocks = n_shared // BLOCK_TOKENS
        keys = work.keys[members[0]][:n_blocks]
        known = self._found(work, keys)
        if len(known) == len(keys):
            return
        begin, end = len(known) * BLOCK_TOKENS, len(keys) * BLOCK_TOKENS
        part = part_of(work.prompts[members[0]], begin, end)
        read = unless_out_of_memory(partial(self._run, recorder, [part], beginning_of(known)))
        if read is None:
            return  # no memory for it: each prompt on its own
        self.cache.n_read += len(part.ids)
        for place, key in enumerate(keys[len(known) :]):
            work.fresh[key] = _block(read, 0, place)
            self.cache.put(key, work.fresh[key])
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
        n_known = len(blocks) * BLOCK_TOKENS
        beginning = beginning_of(blocks)
        rest = {position: part_of(work.prompts[position], n_known) for position in members}
        self.cache.n_found += n_known * len(members)
        self.cache.n_read += sum(len(prompt.ids) for prompt in rest.values())

        def values(positions: Sequence[int]) -> Tensor:
            read = self._run(recorder, [rest[position] for position in positions], beginning)
            for row, position in enumerate(positions):
                for place, key in enumerate(work.keys[position][len(blocks) :]):
                    self.cache.put(key, _block(read, row, place))
            return read.features

        yield from self.in_batches(rest, n_known, values)

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


def _block(read: BlocksRead, row: int, place: int) -> Block:
    """A block of a prompt on its own: what it was read with must not be kept alive by it."""
    begin, end = place * BLOCK_TOKENS, (place + 1) * BLOCK_TOKENS
    pairs = [
        (key[row : row + 1, :, begin:end].clone(), value[row : row + 1, :, begin:end].clone())
        for key, value in read.keys_and_values
    ]
    state = read.states[place]
    return Block(pairs, state[torch.tensor([row], device=state.broken.device)])


def _plan_key(backbone: Backbone, schema: FeatureSchema, rule: DimensionRule) -> bytes:
    """Tells apart what is computed, and by which model."""
    facts = (backbone.weights_sha256, backbone.dtype, schema.layers, schema.selection, rule)
    return hashlib.sha256(repr(facts).encode()).digest()
