"""What was read, for texts that begin like it: keys, values and statistics, block after block.

Texts that grow, and conversations that go on, begin with what was read before. Of every whole block
of tokens the cache has the keys and values of its tokens and the statistics of all tokens up to its
end, or the rows of its tokens, under a hash of all ids up to there, of which of them count, and of
what is computed. So blocks of a beginning are found one after the other, and only what is behind
them is read.

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

from torch import Tensor

from splinellm.backbone.block_reduction import TENSOR_BYTES, n_bytes_of
from splinellm.backbone.reduction import PromptState
from splinellm.backbone.shared_prefix import Beginning, Stacked
from splinellm.errors import ConfigurationError
from splinellm.extraction.tokens import TokenizedPrompt
from splinellm.parameters import whole

BLOCK_TOKENS = 32
"""Of prompts, whose statistics are made anew at every end of a block."""

TOKEN_BLOCK_TOKENS = 8
"""Where rows stand for tokens, of which nothing must be made: the less is left to read again."""


@dataclass(frozen=True)
class Block:
    """Some tokens that were read.

    Parameters
    ----------
    keys_and_values : Stacked
        Of its tokens.
    known : PromptState, or Tensor of shape (T, L * F)
        Statistics of all tokens up to its end; or the rows of its own.
    """

    keys_and_values: Stacked
    known: PromptState | Tensor

    @property
    def n_bytes(self) -> int:
        """Memory that it takes, with what finds it."""
        return TENSOR_BYTES + n_bytes_of(self.keys_and_values) + n_bytes_of(self.known)


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
        self.limit = whole("prefix_cache_bytes", n_bytes) or 0
        if self.limit < 1:
            raise ConfigurationError(f"a prefix cache of {n_bytes} bytes can hold nothing")
        self.n_read = self.n_found = 0
        self.n_bytes = 0
        self._blocks: OrderedDict[bytes, tuple[Block, int]] = OrderedDict()
        self._secret = secrets.token_bytes(32)
        self._lock = Lock()

    def __len__(self) -> int:
        """Count the blocks."""
        return len(self._blocks)

    def keys(self, prompt: TokenizedPrompt, plan: bytes, size: int) -> list[bytes]:
        """Keys of a prompt's whole blocks.

        Parameters
        ----------
        prompt : TokenizedPrompt
            Ids, and which of them count.
        plan : bytes
            Tells apart what is computed of them.
        size : int
            Tokens of a block.
        """
        counted = bytes(prompt.counted or [1] * len(prompt.ids))
        keys, key = list[bytes](), plan
        for end in range(size, len(prompt.ids) + 1, size):
            part = slice(end - size, end)
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
    known = blocks[-1].known
    pairs = Stacked.joined([block.keys_and_values for block in blocks])
    return Beginning.of(pairs, known if isinstance(known, PromptState) else None)
