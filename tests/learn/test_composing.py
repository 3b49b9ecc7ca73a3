"""Short texts inside longer ones: what they are made of, what is learned from them and measured."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import numpy as np
import pytest

from splinellm import PooledClassifier, SplineExtractor
from splinellm.backbone.loading import Backbone
from splinellm.errors import ConfigurationError
from splinellm.learn import composing, pooled_training, register_backbone, trials
from splinellm.learn.composing import (
    COMPOSED,
    COUNT,
    FEWEST_SHARDS,
    MOST_SHARDS,
    SHORT,
    Composition,
    compose,
    sharded,
)
from splinellm.learn.labels import Labels
from splinellm.learn.out_of_fold import OutOfFold
from splinellm.learn.pooled_material import Material
from splinellm.learn.pooled_training import PooledSettings, train_pooled
from splinellm.learn.pooling import Pooling
from splinellm.learn.windows import Windows, read_windows
from tests.learn.counting import count_reads
from tests.tiny import tiny_backbone

N = 120
IS_TOXIC = np.arange(N) % 3 == 0
TEXTS = [f"r{i} {'idiot' if toxic else 'tree'} zz" for i, toxic in enumerate(IS_TOXIC.tolist())]
LABELS = Labels("binary", ("clean", "toxic"), IS_TOXIC.astype(np.int64))
POOLING = Pooling(window=8, stride=4)
LIMIT = 256


@pytest.fixture(autouse=True)
def _short_fillers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A word has many tokens here, and a text few words."""
    monkeypatch.setattr(composing, "LENGTHS", (9, 30))


@cache
def extractor(max_tokens: int = LIMIT) -> SplineExtractor:
    return SplineExtractor(tiny_backbone("llama"), features="blocks:8", max_tokens=max_tokens)


def rows_in(text: str) -> list[int]:
    """Rows that a text has parts of; the last may be cut."""
    return [int(number) for number in re.findall(r"\br(\d+)\b", text)]


def test_parts_are_clean_but_for_the_short_one_and_of_one_shard_and_tuning_group() -> None:
    tuning = np.arange(N) % 2
    found = Composition.of(TEXTS, LABELS, tuning_groups=tuning)
    assert len(found) > N / 2
    assert set(IS_TOXIC[found.composed.short].tolist()) == {False, True}
    for text, row, end in zip(
        found.composed.texts,
        found.composed.short.tolist(),
        found.composed.ends.tolist(),
        strict=True,
    ):
        assert text[:end].endswith(TEXTS[row])
        parts = rows_in(text)
        assert len(parts) > 3
        assert set(found.shards[parts].tolist()) == {found.shards[row]}
        assert set(tuning[parts].tolist()) == {tuning[row]}
        assert parts.count(row) == 1
        assert not IS_TOXIC[[part for part in parts if part != row]].any()


def test_the_seed_alone_chooses() -> None:
    one, same, other = (Composition.of(TEXTS, LABELS, seed=seed) for seed in (1, 1, 2))
    assert one.composed.texts == same.composed.texts
    assert set(one.composed.texts).isdisjoint(other.composed.texts)


def test_long_texts_are_put_nowhere_and_shorten_to_what_is_around() -> None:
    texts = [f"r{i} " + "tree " * SHORT if i % 2 else f"r{i}" for i in range(40)]
    found = compose(
        texts,
        np.zeros(40, np.int64),
        kinds=np.where(np.arange(40) < 20, 0, -1),
        clean=np.arange(40) >= 20,
        origins=np.zeros(40),
    )
    assert sorted(found.short.tolist()) == list(range(0, 20, 2))
    assert all(9 < len(text.split()) <= 31 for text in found.texts)


@pytest.mark.parametrize("n", [30, 3000, 30_000])
def test_groups_stay_whole_in_shards_of_both_labels(n: int) -> None:
    groups = np.arange(n) // 2 * 7
    shards = sharded(groups)
    np.testing.assert_array_equal(shards[::2], shards[1::2])
    sizes = np.bincount(shards)
    assert min(FEWEST_SHARDS, n // 2) <= len(sizes) <= MOST_SHARDS
    assert sizes.max() <= sizes.min() + 2
    if n > 30:  # labels that alternate, as in a file that was made so, are in every one of them
        assert len({(s, g % 2) for s, g in zip(shards, groups // 7, strict=True)}) == 2 * len(sizes)


@pytest.mark.parametrize("n_short", [9, 30])
def test_composed_texts_count_as_others_do_up_to_a_factor_and_leave_the_prior(n_short: int) -> None:
    long = "tree " * SHORT
    texts = [
        text if row < n_short * (2 - toxic) else f"{text} {long}"
        for row, (text, toxic) in enumerate(zip(TEXTS, IS_TOXIC.tolist(), strict=True))
    ]
    own = np.random.default_rng(0).uniform(0.5, 2.0, N)
    found = Composition.of(texts, LABELS)
    weights = found.weights(own)
    np.testing.assert_array_equal(weights[:N], own)
    of_composed, toxic = weights[N:], IS_TOXIC[found.composed.short]
    share = of_composed[toxic].sum() / of_composed.sum()
    assert share == pytest.approx(own[IS_TOXIC].sum() / own.sum())
    factors = of_composed / own[found.composed.short]
    assert factors.max() <= COUNT * (1 + 1e-9)
    if n_short == 9:
        assert factors.max() == pytest.approx(COUNT)
        assert of_composed.sum() < own.sum()
    plain = Composition.of(TEXTS, LABELS).weights(None)
    assert plain[N:].sum() == pytest.approx(N)


def test_of_several_labels_those_without_any_are_what_is_around() -> None:
    flags = np.stack([IS_TOXIC, np.arange(N) % 4 == 0], axis=1).astype(np.int64)
    found = Composition.of(TEXTS, Labels("multilabel", ("a", "b"), flags))
    for text, row in zip(found.composed.texts, found.composed.short.tolist(), strict=True):
        assert not flags[[part for part in rows_in(text) if part != row]].any()
    settings = PooledSettings(POOLING, n_components=4)
    labels = Labels("multilabel", ("a", "b"), flags)
    classifier = train_pooled(
        TEXTS, labels, extractor(), name="x", settings=settings, composition=found
    )
    assert classifier.card.data == {"rows": N, COMPOSED: len(found)}


def test_what_cannot_be_composed_is_refused() -> None:
    several = Labels("multiclass", ("a", "b", "c"), np.arange(N) % 3)
    with pytest.raises(ConfigurationError, match="one of the 3 exclusive classes"):
        Composition.of(TEXTS, several)
    long = [f"{t} {'tree ' * SHORT}" if x else t for t, x in zip(TEXTS, IS_TOXIC, strict=True)]
    with pytest.raises(ConfigurationError, match="no short text of class 'toxic' inside"):
        Composition.of(long, LABELS)
    flags = np.stack([IS_TOXIC, ~IS_TOXIC], axis=1).astype(np.int64)
    with pytest.raises(ConfigurationError, match="no short text without a label inside"):
        Composition.of(TEXTS, Labels("multilabel", ("a", "b"), flags))
    tiny: dict[str, Any] = {"name": "x", "settings": PooledSettings(POOLING)}
    with pytest.raises(ConfigurationError, match="the token limit leaves no short text"):
        train_pooled(TEXTS, LABELS, extractor(2), composition=Composition.of(TEXTS, LABELS), **tiny)


def windows_of(composition: Composition, max_tokens: int) -> Windows:
    texts = [*TEXTS, *composition.composed.texts]
    return read_windows(extractor(max_tokens), texts, POOLING)


def test_texts_whose_short_part_the_limit_cut_are_left_out() -> None:
    composition = Composition.of(TEXTS, LABELS)
    assert composition.read_whole(windows_of(composition, LIMIT)).all()
    windows = windows_of(composition, 40)
    whole = composition.read_whole(windows)
    assert 0.1 < whole.mean() < 0.9
    for i in np.flatnonzero(~whole).tolist():
        own = windows.characters[windows.starts[N + i] : windows.starts[N + i + 1]]
        assert own[:, 1].max() < composition.composed.ends[i]
    pairs, thirds = np.arange(N) // 2, np.arange(N) % 3
    told: dict[str, Any] = {"groups": pairs, "tuning_groups": thirds, "marks": [None] * N}
    told["members"] = {"m": IS_TOXIC}
    kept, texts, labels, more = composition.beside(windows, TEXTS, LABELS, told)
    rows = [*range(N), *(N + np.flatnonzero(whole))]
    np.testing.assert_array_equal(kept.values, windows[np.array(rows)].values)
    assert texts == [[*TEXTS, *composition.composed.texts][row] for row in rows]
    short = composition.composed.short[whole]
    np.testing.assert_array_equal(labels.values[N:], IS_TOXIC[short])
    np.testing.assert_array_equal(more["groups"], pairs[[*range(N), *short]])
    np.testing.assert_array_equal(more["tuning_groups"], thirds[[*range(N), *short]])
    np.testing.assert_array_equal(more["members"]["m"][N:], IS_TOXIC[short])
    np.testing.assert_array_equal(more["split_groups"][N:], composition.shards[short])
    assert more["measured"].tolist() == [True] * N + [False] * len(short)
    assert len(more["marks"]) == len(more["weights"]) == len(texts)
    assert more["data"] == {"rows": N, COMPOSED: len(short)}


def test_figures_are_of_texts_as_they_are_and_no_split_tears_a_composed_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reads = count_reads(monkeypatch)
    monkeypatch.setattr(trials, "FEW_ROWS", N + 1)
    composition = Composition.of(TEXTS, LABELS)
    fits: list[set[int]] = []
    fit = Material.fit

    def watched(self: Material, rows: np.ndarray, groups: np.ndarray | None) -> Any:
        fits.append({part for row in rows for part in rows_in(self.texts[row])})
        return fit(self, rows, groups)

    monkeypatch.setattr(Material, "fit", watched)
    tried: list[np.ndarray] = []
    figures = pooled_training.pooled_figures

    def measured(material: Any, tries: Any, *rest: Any, **told: Any) -> Any:
        tried.extend(trial.rows for trial in tries)
        return figures(material, tries, *rest, **told)

    monkeypatch.setattr(pooled_training, "pooled_figures", measured)
    kept = OutOfFold(N)
    classifier = train_pooled(
        TEXTS,
        LABELS,
        extractor(),
        name="x",
        settings=PooledSettings(POOLING, n_components=4),
        composition=composition,
        kept=kept,
    )
    assert len(reads) == N + len(composition)
    assert len(tried) == 5  # of few rows, though with the composed ones there are more
    assert sorted(np.concatenate(tried).tolist()) == list(range(N))
    for rows, learned in zip(tried, fits, strict=False):
        assert learned.isdisjoint(rows.tolist())
    assert fits[-1] == set(range(N))
    assert kept.of("toxic")[0].tolist() == list(range(N))
    held_out = classifier.card.metrics["held out"]
    assert held_out["measured on"].startswith(f"each of {N} rows once")
    assert held_out["toxic"]["rows"] == IS_TOXIC.sum()
    assert classifier.card.data == {"rows": N, COMPOSED: len(composition)}
    assert classifier.card.settings["rows truncated"] == 0


def test_the_estimator_composes_if_asked(llama: Backbone) -> None:
    register_backbone("composing-tiny", llama)
    settings: dict[str, Any] = {"features": "blocks:8", "max_tokens": LIMIT, "hybrid": True}
    plain = PooledClassifier("composing-tiny", **settings)
    model = PooledClassifier("composing-tiny", **settings, compose=True)
    assert PooledClassifier(**model.get_params()).get_params() == model.get_params()
    y = np.where(IS_TOXIC, "vile", "nice")
    plain.fit(TEXTS, y)
    model.fit(TEXTS, y)
    assert COMPOSED not in plain.classifier_.card.data
    assert model.classifier_.card.data[COMPOSED] > N / 2
    assert model.score(TEXTS, y) > 0.9
    with pytest.raises(ConfigurationError, match="exclusive classes"):
        model.fit(TEXTS, np.arange(N) % 3)
