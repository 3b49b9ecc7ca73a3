"""A tokenizer without a vocabulary: every word is a token, whose id is a hash of it."""

from __future__ import annotations

import re
import zlib
from typing import Any

N_VOCABULARY = 50_000

_SPECIAL = {"</s>": 2, "<|im_end|>": 3}
_TOKEN = re.compile(r"\s*\S+|\s+")


def token_of(word: str) -> int:
    """Id of a word in ordinary text."""
    return 100 + zlib.crc32(word.encode()) % (N_VOCABULARY - 100)


class FakeTokenizer:
    """Called as transformers' fast tokenizers are; every word is a token, with its space before."""

    is_fast = True
    chat_template = "{role} : {content} end"

    def apply_chat_template(
        self, chat: list[dict[str, str]], *, tokenize: bool, chat_template: str
    ) -> str:
        assert not tokenize
        return " ".join(chat_template.format(**message) for message in chat)

    def __call__(
        self,
        texts: str | list[str],
        *,
        split_special_tokens: bool = False,
        return_offsets_mapping: bool = False,
        **_: Any,
    ) -> dict[str, Any]:
        if isinstance(texts, str):
            encoded = self(
                [texts],
                split_special_tokens=split_special_tokens,
                return_offsets_mapping=return_offsets_mapping,
            )
            return {name: values[0] for name, values in encoded.items()}
        found = [list(_TOKEN.finditer(text)) for text in texts]
        special = {} if split_special_tokens else _SPECIAL
        result: dict[str, Any] = {
            "input_ids": [
                [special.get(m[0].strip(), token_of(m[0].strip())) for m in matches]
                for matches in found
            ]
        }
        if return_offsets_mapping:
            result["offset_mapping"] = [[m.span() for m in matches] for matches in found]
        return result

    def decode(self, ids: list[int]) -> str:
        """Words cannot be had back from their hashes; they have names of their own."""
        return "".join(f" #{token}" for token in ids)
