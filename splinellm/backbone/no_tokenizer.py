"""What stands for the tokenizer of a model that came without one."""

from __future__ import annotations

from typing import Any, NoReturn

from splinellm.errors import ConfigurationError


class NoTokenizer:
    """Token ids need none; whatever does is told which is missing."""

    is_fast = True

    def __call__(self, *_texts: Any, **_told: Any) -> NoReturn:
        """Refuse texts."""
        raise ConfigurationError(
            "a model in memory needs its tokenizer to read texts",
            hint="SplineExtractor(model, AutoTokenizer.from_pretrained(...)), or give token ids",
        )

    apply_chat_template = convert_ids_to_tokens = __call__

    def decode(self, _ids: Any, **_told: Any) -> str:
        """Give no text: rows of tokens have none then, as those of a model that is watched."""
        return ""
