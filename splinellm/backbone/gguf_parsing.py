"""Parse a .gguf file once where transformers does it three times, and without a slow detour.

transformers opens the file anew for configuration, weights and tokenizer, and for every tensor asks
for the same map of names; the reader cuts a vocabulary of 49,152 strings out of a memory map, one
piece at a time. Of the 16 seconds that the default model took, 12 went into that.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

import gguf
import numpy as np

_one_at_a_time = Lock()
"""The names that are replaced belong to the whole process."""


class _PlainReader(gguf.GGUFReader):
    """Reads the same bytes as a plain array: a slice of a memory map is a new memory map."""

    _bytes: np.ndarray

    @property
    def data(self) -> Any:
        """Bytes of the file, still mapped and not read."""
        return self._bytes

    @data.setter
    def data(self, mapped: np.ndarray) -> None:
        self._bytes = np.asarray(mapped)


@contextmanager
def parsed_once() -> Iterator[None]:
    """Let every reader of the same file within the block be one, and every map of names, too.

    Only what is read is shared: nobody writes to a reader. Other threads that read .gguf files
    meanwhile get readers of this kind, which is as good for them.
    """
    with _one_at_a_time:
        before = {name: getattr(gguf, name) for name in ("GGUFReader", "get_tensor_name_map")}
        shared = {"GGUFReader": cache(_PlainReader)}
        shared["get_tensor_name_map"] = cache(before["get_tensor_name_map"])
        _replace(shared)
        try:
            yield
        finally:
            _replace(before)


def _replace(functions: dict[str, Any]) -> None:
    for name, function in functions.items():
        setattr(gguf, name, function)
