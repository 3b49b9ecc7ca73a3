"""What was read, for texts that begin like it: keys, values and statistics, block after block.

Texts that grow, and conversations that go on, begin with what was read before. Of every whole block
of tokens the cache has the keys and values of its tokens and the statistics of all tokens up to its
end, under a hash of all ids up to there, of which of them count, and of what is computed. So blocks
of a beginning are found one after the other, and only what is behind them is read.

No text is kept, and ids only in hashes, under a key that nobody knows.
"""

from __future__ import annotations

import hashlib
import secrets
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

import torch
from torch import Tensor

from splinellm.backbone.block_reduction import n_bytes_of
from splinellm.backbone.reduction import PromptState
from splinellm.backbone.shared_prefix import Beginning
from splinellm.errors import ConfigurationError
from splinellm.extraction.tokens import TokenizedPrompt

BLOCK_TOKENS = 32


@dataclass(frozen=True)
class Block:
    """Some tokens that were read.

    Parameters
    ----------
    keys_and_values : list of (Tensor, Tensor)
        Of its tokens, by layer, (1, H_kv, T, D) each.
    state : PromptState
        Statistics of all tokens up to its end.
    """

    keys_and_values: list[tuple[Tensor, Tensor]]
    state: PromptState

    @property
    def n_bytes(self) -> int:
        """Memory that it takes."""
        pairs = sum(n_bytes_of(it) for pair in self.keys_and_values for it in pair)
        return pairs + n_bytes_of(self.state)


class PrefixCache:
    """Blocks of tokens of one model, in a budget of bytes; the least recently used go first.

    What computes with it may differ in layers and features: a block is found by who computes the
    same. The model's weights must stay as they are, see :meth:`clear`.

    Parameters
    ----------
    n_bytes : int
        Budget, on the model's device.

    Attributes
    ----------
    n_read, n_found : int
        Tokens that were read since it was made, and tokens that were found.
    """

    def __init__(self, n_bytes: int) -> None:
        if n_bytes < 1:
            raise ConfigurationError(f"a prefix cache of {n_bytes} bytes can hold nothing")
        self.limit = n_bytes
        self.n_read = self.n_found = 0
        self.n_bytes = 0
        self._blocks: OrderedDict[bytes, tuple[Block, int]] = OrderedDict()
        self._secret = secrets.token_bytes(32)
        self._lock = Lock()

    def __len__(self) -> int:
        """Count the blocks."""
        return len(self._blocks)

    def keys(self, prompt: TokenizedPrompt, plan: bytes) -> list[bytes]:
        """Keys of a prompt's whole blocks, but for one that would leave no token to read.

        Parameters
        ----------
        prompt : TokenizedPrompt
            Ids, and which of them count.
        plan : bytes
            Tells apart what is computed of them.
        """
        counted = bytes(prompt.counted or [1] * len(prompt.ids))
        keys, key = list[bytes](), plan
        for end in range(BLOCK_TOKENS, len(prompt.ids), BLOCK_TOKENS):
            part = slice(end - BLOCK_TOKENS, end)
            hashed = hashlib.blake2b(key, key=self._secret, digest_size=32)
            hashed.update(array("q", prompt.ids[part]).tobytes() + counted[part])
            key = hashed.digest()
            keys.append(key)
        return keys

    def get(self, keys: Sequence[bytes]) -> list[Block]:
        """Blocks of the longest beginning that is there."""
        found = []
        with self._lock:
            for key in keys:
                if key not in self._blocks:
                    break
                found.append(self._blocks[key][0])
            # The first block last: without it, those behind it are found no more.
            for key in reversed(keys[: len(found)]):
                self._blocks.move_to_end(key)
        return found

    def put(self, key: bytes, block: Block) -> None:
        """Keep a block, and forget others for it."""
        size = block.n_bytes
        with self._lock:
            if key in self._blocks or size > self.limit:
                return
            self._blocks[key] = (block, size)
            self.n_bytes += size
            while self.n_bytes > self.limit:
                _, (_, freed) = self._blocks.popitem(last=False)
                self.n_bytes -= freed

    def clear(self) -> None:
        """Forget everything: to be called when the weights of the model have changed."""
        with self._lock:
            self._blocks.clear()
            self.n_bytes = 0


def beginning_of(blocks: Sequence[Block]) -> Beginning | None:
    """What must be known of blocks to read on behind them; None of none."""
    if not blocks:
        return None
    by_layer = zip(*(block.keys_and_values for block in blocks), strict=True)
    pairs = [
        (torch.cat([key for key, _ in layer], dim=-2), torch.cat([v for _, v in layer], dim=-2))
        for layer in by_layer
    ]
    return Beginning.of(pairs, blocks[-1].state)
