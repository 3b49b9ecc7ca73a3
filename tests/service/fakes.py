"""A served model without weights: instant, different for every prompt, and it fails on demand.

Words are tokens. What a prompt does is in its words, so that tests say it in plain text:

    toxic severe obscene threat insult hate    the label's probability is above one half
    code fiction instructions law ...          the domain
    POISON     every batch with it fails, and the prompt alone, too
    GRUMPY     fails in company, but not alone
    NAN        this prompt alone is not finite
    HUGE       this prompt alone does not fit the memory
    BLOCK      waits until `gate.open()`
    DIE        ends the engine's thread, which is started anew
"""

from __future__ import annotations

import re
import threading
import zlib
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from service.engine import EngineLimits, EngineListener, SilentListener
from service.models import ModelCatalog, ServedModel, attach
from splinellm.backbone.architectures import ARCHITECTURES
from splinellm.backbone.loading import TOKENIZER_PROBE
from splinellm.conversations import Count
from splinellm.errors import NonFiniteFeaturesError, OutOfMemoryError, PromptError
from splinellm.extraction.rows import Rows
from splinellm.extraction.tokens import TokenizedPrompt
from splinellm.learn.card import Card
from splinellm.learn.classifier import Classifier
from splinellm.provenance import Provenance
from splinellm.schema import (
    HYPERPLANE_DISTANCE,
    PAPER_FEATURES,
    SIGN_FRACTION,
    FeatureSelection,
    Granularity,
    block_name,
)
from tests.fakes import fake_provenance
from tests.service.words import N_VOCABULARY, FakeTokenizer, token_of

N_LAYERS = 6
MAX_POSITIONS = 2048
BATCH_TOKENS = 64
CLASSIFIER_TOKENS = 256

TOXIC_WORDS = {
    "toxic": "toxic",
    "severe": "severe_toxic",
    "obscene": "obscene",
    "threat": "threat",
    "insult": "insult",
    "hate": "identity_hate",
}
"""Words, and the label that each of them sets off."""
DOMAINS = ("code", "fiction", "instructions", "law", "math", "patents", "pubmed", "wiki_talk")
WORDS = (*TOXIC_WORDS, *DOMAINS)
"""The word at position i raises sign block i above 1, which it never is otherwise."""


class Gate:
    """Holds the engine's thread in a batch until a test opens it."""

    def __init__(self) -> None:
        self._opened = threading.Event()
        self._entered = threading.Event()

    def open(self) -> None:
        self._opened.set()

    def wait_until_entered(self) -> None:
        """Return when the engine is in a batch with BLOCK in it."""
        assert self._entered.wait(30)

    def hold(self) -> None:
        self._entered.set()
        assert self._opened.wait(30)


class FakeBackbone:
    """The part of a Backbone that a served model uses."""

    def __init__(self, spec: str = "fake", *, memory_tokens: int | None = None) -> None:
        self.spec = spec
        self.weights_sha256 = "0" * 64
        self.architecture = ARCHITECTURES["llama"]
        self.tokenizer = FakeTokenizer()
        self.tokenizer_probe = tuple(
            self.tokenizer(TOKENIZER_PROBE, split_special_tokens=True)["input_ids"]
        )
        self.n_layers = N_LAYERS
        self.n_vocabulary = N_VOCABULARY
        self.n_hyperplanes = 72
        self.max_positions = MAX_POSITIONS
        self.device = "cpu"
        self.dtype = "float32"
        self.memory_tokens = memory_tokens
        self.gate = Gate()
        self.is_broken = False
        """Whether it fails on everything."""
        self.seen: list[list[list[int]]] = []
        """Token ids of every batch, failed ones included, over all extractors."""


class FakeExtractor:
    """The part of SplineExtractor that the service uses."""

    def __init__(
        self,
        backbone: FakeBackbone,
        *,
        layers: Sequence[int] = (0, 2),
        features: FeatureSelection | str = "paper",
        max_tokens: int = CLASSIFIER_TOKENS,
        batch_tokens: int | None = None,
        dimension_rule: str = "relative",
        dimension_threshold: float = 0.1,
        allow_special_tokens: bool = False,
        count: Count = "all",
        chat_template: str | None = None,
        prefix_cache: object = None,
    ) -> None:
        self.backbone = backbone
        self.batch_tokens = batch_tokens or BATCH_TOKENS
        self._selection = FeatureSelection.parse(features)
        self.provenance = provenance_of(
            backbone,
            layers=tuple(layers),
            features=self._selection.names,
            n_blocks=self._selection.n_blocks,
            max_tokens=max_tokens,
            dimension_rule=dimension_rule,
            dimension_threshold=dimension_threshold,
            allow_special_tokens=allow_special_tokens,
            count=count,
            distance_precision="full" if self._selection.needs_distance else "none",
        )

    def silence(self) -> None:
        """Nothing is ever said."""

    def provenance_at(self, granularity: Granularity) -> Provenance:
        return self.provenance.at(granularity)

    def read(
        self, prompts: Mapping[Any, TokenizedPrompt], *, granularity: Granularity = "prompt"
    ) -> dict[Any, Rows | PromptError]:
        batch = [prompt.ids for prompt in prompts.values()]
        self.backbone.seen.append(batch)
        words = {token for ids in batch for token in ids}
        if token_of("BLOCK") in words:
            self.backbone.gate.hold()
        if token_of("DIE") in words:
            raise SystemExit
        if self.backbone.is_broken:
            raise RuntimeError("device-side assert")
        if token_of("POISON") in words:
            raise RuntimeError("the text was: POISON")
        if token_of("GRUMPY") in words and len(batch) > 1:
            raise RuntimeError("the text was: GRUMPY")
        self._fit_memory(len(batch) * max(map(len, batch)))
        return {key: self._result(prompt.ids, granularity) for key, prompt in prompts.items()}

    def _result(self, ids: Sequence[int], granularity: Granularity) -> Rows | PromptError:
        if token_of("NAN") in ids:
            return NonFiniteFeaturesError("the forward pass overflowed")
        if token_of("HUGE") in ids:
            return OutOfMemoryError("does not fit the memory")
        return self.rows(ids, granularity)

    def rows(self, ids: Sequence[int], granularity: Granularity = "prompt") -> Rows:
        """What a correct run makes of token ids."""
        p = self.provenance_at(granularity)
        if granularity == "prompt":
            return fake_values(ids, p.layers, p.features, p.n_blocks)[None]
        return np.stack(
            [
                fake_token_values(ids, i, granularity, p.layers, p.features, p.n_blocks)
                for i in range(len(ids))
            ]
        )

    def _fit_memory(self, padded_tokens: int) -> None:
        """Halve the budget as the real one does when memory runs out."""
        limit = self.backbone.memory_tokens
        while limit is not None and padded_tokens > limit:
            padded_tokens //= 2
            self.batch_tokens = padded_tokens


LATER_FEATURES = (
    *("sign_entropy_mean", "sign_entropy_std"),
    *("complexity_0.05_mean", "complexity_0.05_std"),
)


def fake_values(
    ids: Sequence[int], layers: Sequence[int], features: Sequence[str], n_blocks: int
) -> np.ndarray:
    """Features of token ids, the same whatever other layers and features are asked for."""
    # Of all radii the same numbers.
    features = [re.sub(r"^complexity_[0-9.]+[0-9]", "complexity_0.05", name) for name in features]
    features = [re.sub(r"^complexity_[0-9](?=_)", "complexity_0.05", name) for name in features]
    random = np.random.default_rng(zlib.crc32(array("q", ids).tobytes()))
    paper = random.random((N_LAYERS, len(PAPER_FEATURES)))
    blocks = random.random((N_LAYERS, n_blocks))
    present = set(ids)
    for position, word in enumerate(WORDS[:n_blocks]):
        blocks[:, position] += token_of(word) in present
    names = (*PAPER_FEATURES, *(block_name(i) for i in range(n_blocks)), *LATER_FEATURES)
    columns = [names.index(name) for name in features]
    every = np.concatenate([paper, blocks, random.random((N_LAYERS, len(LATER_FEATURES)))], 1)
    return every[list(layers)][:, columns].ravel().astype(np.float32)


def fake_token_values(
    ids: Sequence[int],
    position: int,
    granularity: Granularity,
    layers: Sequence[int],
    features: Sequence[str],
    n_blocks: int,
) -> np.ndarray:
    """Features of one token: like the real ones, those of a prefix are the prefix's own."""
    seen = list(ids[: position + 1])
    if granularity == "prefix":
        return fake_values(seen, layers, features, n_blocks)
    # Those of a token are other numbers, but depend on what was before it, too.
    of_prompt = {
        SIGN_FRACTION: "sign_mean",
        HYPERPLANE_DISTANCE: "distance_min",
        "sign_entropy": "sign_entropy_mean",
    }
    of_prompt |= {name: f"{name}_mean" for name in features if name.startswith("complexity_")}
    names = [of_prompt.get(name, name) for name in features]
    return fake_values([*seen, -1], layers, names, n_blocks)


def provenance_of(backbone: FakeBackbone, **changes: Any) -> Provenance:
    """A record of the fake model."""
    facts = {
        "model": backbone.spec,
        "weights_sha256": backbone.weights_sha256,
        "n_layers": backbone.n_layers,
        "dtype": backbone.dtype,
        "tokenizer_probe": backbone.tokenizer_probe,
    }
    return fake_provenance(**(facts | changes))


class FakeEstimator:
    """Probabilities from the sign blocks of the first layer: half the value, 0 to 1."""

    def __init__(self, *blocks: int) -> None:
        self._blocks = list(blocks)

    def predict_proba(self, values: np.ndarray) -> np.ndarray:
        scores = values[:, self._blocks].astype(float) / 2
        if len(self._blocks) == 1:
            return np.concatenate([1 - scores, scores], 1)
        return scores / scores.sum(1, keepdims=True)


def fake_classifiers(
    backbone: FakeBackbone, *, max_tokens: int = CLASSIFIER_TOKENS
) -> list[Classifier]:
    """Make one classifier of each kind, with the names and classes of the boxed ones."""
    n_toxic = len(TOXIC_WORDS)
    parts: list[tuple[str, Any, tuple[str, ...], int, list[FakeEstimator]]] = [
        ("toxicity", "binary", ("clean", "toxic"), 4, [FakeEstimator(0)]),
        (
            "toxicity-types",
            "multilabel",
            tuple(TOXIC_WORDS.values()),
            3,
            [FakeEstimator(i) for i in range(n_toxic)],
        ),
        (
            "domain",
            "multiclass",
            DOMAINS,
            2,
            [FakeEstimator(*range(n_toxic, n_toxic + len(DOMAINS)))],
        ),
    ]
    blocks = FeatureSelection.parse("blocks").names
    return [
        Classifier(
            estimators,
            Card(
                name=name,
                kind=kind,
                classes=classes,
                thresholds=dict.fromkeys(classes[1:] if kind == "binary" else classes, 0.5),
                provenance=provenance_of(
                    backbone,
                    layers=tuple(range(n_layers)),
                    features=blocks,
                    max_tokens=max_tokens,
                    distance_precision="none",
                ),
                data={"name": "made up", "rows": 0},
                settings={},
                metrics={"roc_auc": 0.9},
                weaknesses=("words it does not know",),
            ),
        )
        for name, kind, classes, n_layers, estimators in parts
    ]


def fake_model(
    name: str = "fake",
    *,
    limits: EngineLimits | None = None,
    listener: EngineListener | None = None,
    max_tokens: int = 1024,
    memory_tokens: int | None = None,
) -> ServedModel:
    """Make a served model that needs no weights; its engine is started."""
    model = ServedModel(
        name,
        FakeBackbone(name, memory_tokens=memory_tokens),  # type: ignore[arg-type]
        limits=limits or EngineLimits(batch_wait_s=0),
        listener=listener or SilentListener(),
        max_tokens=max_tokens,
        make_extractor=FakeExtractor,  # type: ignore[arg-type]
    )
    model.engine.start()
    return model


def backbone_of(model: ServedModel) -> FakeBackbone:
    """The fake under a served model: its gate, and what it has seen."""
    assert isinstance(model.backbone, FakeBackbone)
    return model.backbone


def fake_catalog(*, classifier_tokens: int = CLASSIFIER_TOKENS, **settings: Any) -> ModelCatalog:
    """Make a catalog of one fake model with three classifiers, engine started.

    `settings` are those of :func:`fake_model`; close it with ``catalog.stop(1)``.
    """
    model = fake_model(**settings)
    classifiers = fake_classifiers(backbone_of(model), max_tokens=classifier_tokens)
    return ModelCatalog([model], [attach(classifier, [model]) for classifier in classifiers])
