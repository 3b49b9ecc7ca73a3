"""Stand-ins for the model: instant, and different for every text, so that a swapped row shows."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from splinellm.errors import NonFiniteFeaturesError, PromptError
from splinellm.extraction.inspection import Inspection, inspection_of
from splinellm.extraction.windows import WindowedTable
from splinellm.prompts import check_prompt
from splinellm.provenance import Provenance
from splinellm.schema import FeatureSelection, Granularity, parse_layers
from splinellm.table import FeatureTable, schema_of
from splinellm.token_index import TokenIndex

N_LAYERS = 3


def fake_provenance(**changes: Any) -> Provenance:
    """A record like that of a small model."""
    record: dict[str, Any] = {
        "model": "fake",
        "weights_sha256": "0" * 64,
        "architecture": "llama",
        "n_layers": N_LAYERS,
        "dtype": "float32",
        "attention": "sdpa",
        "layers": (0, 2),
        "features": FeatureSelection.parse("paper").names,
        "n_blocks": 32,
        "max_tokens": 8,
        "dimension_rule": "relative",
        "dimension_threshold": 0.1,
        "allow_special_tokens": False,
        "tokenizer_probe": (1, 2, 3),
        "distance_precision": "full",
    }
    return Provenance(**(record | changes))


def fake_features(text: str, n_columns: int) -> np.ndarray:
    """Features of a text: like random numbers, whole ones and tiny ones among them."""
    values = np.random.default_rng(zlib.crc32(text.encode())).random(n_columns)
    values[::4] = np.round(values[::4] * 10)
    values[1::4] *= 1e-9
    return values.astype(np.float32)


class FakeExtractor:
    """The part of SplineExtractor that readers of files use.

    A text with ``NAN`` in it fails as if the model had overflowed; other markers can be given
    errors to raise.
    """

    def __init__(
        self,
        provenance: Provenance | None = None,
        raises: dict[str, BaseException] | None = None,
        **settings: Any,
    ) -> None:
        self.provenance = provenance or fake_provenance()
        self.raises = raises or {}
        self.settings = settings
        self.seen: list[str] = []

    @classmethod
    def from_pretrained(cls, model: str = "fake", **settings: Any) -> FakeExtractor:
        changes: dict[str, Any] = {"model": model}
        if settings.get("layers") is not None:
            changes["layers"] = parse_layers(settings["layers"], N_LAYERS)
        for name in ("dimension_rule", "dimension_threshold", "allow_special_tokens"):
            if name in settings:
                changes[name] = settings[name]
        if settings.get("dtype", "auto") != "auto":
            changes["dtype"] = settings["dtype"]
        if "features" in settings:
            selection = FeatureSelection.parse(settings["features"])
            changes |= {"features": selection.names, "n_blocks": selection.n_blocks}
        if settings.get("max_tokens") is not None:
            changes["max_tokens"] = settings["max_tokens"]
        return cls(fake_provenance(**changes), model=model, **settings)

    def extract(
        self,
        prompts: Sequence[str],
        *,
        granularity: Granularity = "prompt",
        on_progress: Callable[[int, int], None] | None = None,
    ) -> FeatureTable:
        for index, text in enumerate(prompts):
            check_prompt(text, index)
        table, errors = self.extract_valid(
            prompts, granularity=granularity, on_progress=on_progress
        )
        if errors:
            raise errors[min(errors)]
        return table

    def inspect(self, prompt: str, classifiers: Sequence[Any] = ()) -> Inspection:
        kinds: tuple[Granularity, ...] = ("prompt", "token")
        tables = {kind: self.extract([prompt], granularity=kind) for kind in kinds}
        return inspection_of(prompt, tables, classifiers)

    def require_messages(self) -> None:
        """It reads whatever it is given."""

    def provenance_at(self, granularity: Granularity) -> Provenance:
        return self.provenance.at(granularity)

    def extract_valid(
        self,
        prompts: Sequence[str],
        *,
        granularity: Granularity = "prompt",
        on_progress: Callable[[int, int], None] | None = None,
    ) -> tuple[FeatureTable, dict[int, PromptError]]:
        errors: dict[int, PromptError] = {}
        good = []
        for index, text in enumerate(prompts):
            self.seen.append(text)
            for marker, error in self.raises.items():
                if marker in text:
                    raise error
            if "NAN" in text:
                errors[index] = NonFiniteFeaturesError("the forward pass overflowed", index=index)
            else:
                good.append(text)
        if on_progress is not None:
            on_progress(len(prompts), sum(map(len, prompts)))
        if granularity == "prompt":
            return self.table(good), errors
        kept = [index for index in range(len(prompts)) if index not in errors]
        return self.token_table(dict(zip(kept, good, strict=True)), granularity), errors

    def extract_windows(
        self,
        prompts: Sequence[str],
        *,
        overflow: str = "windows",
        on_progress: Callable[[int, int], None] | None = None,
    ) -> WindowedTable:
        """Every text in one window, however long; it is called truncated nevertheless."""
        del overflow
        table, errors = self.extract_valid(prompts, on_progress=on_progress)
        return WindowedTable(table, np.arange(len(table)), table.n_tokens, table.truncated, errors)

    def table(self, texts: Sequence[str]) -> FeatureTable:
        """What a correct run makes of `texts`."""
        n_columns = len(schema_of(self.provenance).names)
        limit = self.provenance.max_tokens
        return FeatureTable(
            np.array([self.features(t, n_columns) for t in texts], np.float32).reshape(
                len(texts), n_columns
            ),
            np.array([min(len(t), limit) for t in texts], np.int64),
            np.array([len(t) > limit for t in texts], bool),
            self.provenance,
        )

    def token_table(self, texts: Mapping[int, str], granularity: Granularity) -> FeatureTable:
        """The same for rows that stand for tokens: every character is one."""
        provenance = self.provenance_at(granularity)
        n_columns = len(schema_of(provenance).names)
        limit = provenance.max_tokens
        places = [
            (row, text, i) for row, text in texts.items() for i in range(min(len(text), limit))
        ]
        values = [
            self.features(f"{granularity} {text[: i + 1]}", n_columns) for _, text, i in places
        ]
        positions = np.array([i for _, _, i in places], np.int64)
        lengths = [min(len(text), limit) for _, text, _ in places]
        return FeatureTable(
            np.array(values, np.float32).reshape(len(places), n_columns),
            positions + 1 if granularity == "prefix" else np.array(lengths, np.int64),
            np.array([len(text) > limit for _, text, _ in places], bool),
            provenance,
            TokenIndex(
                np.array([row for row, _, _ in places], np.int64),
                positions,
                [text[i] for _, text, i in places],
                positions,
                positions + 1,
            ),
        )

    def features(self, text: str, n_columns: int) -> np.ndarray:
        """Features of one text."""
        return fake_features(text, n_columns)


class LearnableExtractor(FakeExtractor):
    """A fake whose features tell which of a few words are in the text."""

    WORDS = ("toxic", "rude", "spam")

    def features(self, text: str, n_columns: int) -> np.ndarray:
        values = fake_features(text, n_columns)
        for position, word in enumerate(self.WORDS):
            values[position :: len(self.WORDS)] += 3 * (word in text)
        return values
