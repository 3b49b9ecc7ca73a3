"""Short texts inside longer clean ones, and lessons that hold both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from splinellm.classifiers import composed
from splinellm.classifiers.classes import CLEAN, TOXIC
from splinellm.classifiers.composed import COUNT, composed_rows, sharded
from splinellm.classifiers.lessons import is_aside, lesson_of
from splinellm.classifiers.rows import DOMAINS, Rows
from splinellm.classifiers.trials import kept_aside
from splinellm.classifiers.workshop import Reading, Workshop
from splinellm.learn.pooled_material import PooledSettings
from splinellm.learn.pooling import Pooling
from tests.tiny import tiny_backbone

READING = Reading("tiny", (0, 1), "blocks:4")
N_EACH = 12


def text_of(source: str, label: str, number: int) -> str:
    return f"{source} {label} {300 + number}"


def some_rows() -> Rows:
    """Of two sources with both labels, one that counts less, and clean texts of domains."""
    made = [
        (text_of(source, label, i), label, source)
        for source in ("jigsaw", "davidson")
        for label in (TOXIC, CLEAN)
        for i in range(N_EACH)
    ]
    made += [(text_of(DOMAINS, CLEAN, i), CLEAN, DOMAINS) for i in range(N_EACH)]
    texts, labels, sources = zip(*made, strict=True)
    n = len(made)
    return Rows(list(texts), np.array(labels), np.array(sources), np.ones(n), [None] * n)


def test_a_short_text_is_among_clean_ones_of_its_own_group() -> None:
    rows = some_rows()
    groups = np.arange(len(rows)) % 3
    found, short = composed_rows(rows, groups)
    assert sorted(short.tolist()) == list(range(4 * N_EACH))  # of domains none is put anywhere
    for text, label, source, row in zip(
        found.texts, found.label, found.source, short.tolist(), strict=True
    ):
        own = rows.texts[row]
        assert (label, source) == (rows.label[row], rows.source[row])
        assert own in text
        assert len(text.split()) > 20 * 0.9
        around = text.replace(own, " ", 1)
        assert TOXIC not in around
        assert not {DOMAINS, "jigsaw", "davidson"} - {source, DOMAINS} & set(around.split())
        # The number of each text tells its group, as of every source there is a multiple of three.
        assert {int(word) % 3 for word in around.split() if word.isdigit()} == {row % 3}


def test_both_labels_count_alike_and_sources_as_they_do_alone() -> None:
    found, _ = composed_rows(some_rows(), np.zeros(5 * N_EACH, np.int64))
    for source, share in (("jigsaw", 1.0), ("davidson", 0.15)):
        of_it = found.source == source
        sums = [found.weights[of_it & (found.label == label)].sum() for label in (TOXIC, CLEAN)]
        assert sums == pytest.approx([COUNT * share * N_EACH] * 2)


def test_the_same_rows_give_the_same_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, groups = some_rows(), np.zeros(5 * N_EACH, np.int64)
    assert composed_rows(rows, groups)[0].texts == composed_rows(rows, groups)[0].texts
    monkeypatch.setattr(composed, "MOST", 5)
    fewer, _ = composed_rows(rows, groups)
    assert len(fewer) == 2 * 2 * 5


def test_what_has_no_clean_text_beside_it_is_left_out() -> None:
    rows = some_rows()
    found, short = composed_rows(rows, np.arange(len(rows)))
    assert not len(found)
    assert not len(short)


def test_groups_become_few_and_stay_whole() -> None:
    groups = np.repeat(np.arange(3000), 2)
    shards = sharded(groups)
    np.testing.assert_array_equal(shards[::2], shards[1::2])
    assert set(shards.tolist()) == set(range(composed.N_SHARDS))
    assert np.bincount(shards).max() < 2.0 * len(groups) / composed.N_SHARDS


def test_nothing_that_is_kept_aside_is_learned_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(composed, "N_SHARDS", 2)
    rows = some_rows()
    shop = Workshop(tmp_path, Pooling(window=4, stride=2))
    shop._backbones["tiny"] = tiny_backbone("llama")
    lesson = lesson_of(shop, READING, rows)
    aside = is_aside(rows)
    np.testing.assert_array_equal(aside, kept_aside(rows.texts))
    assert aside.any()
    learned = lesson.to_learn()
    assert learned.own.sum() == (~aside).sum()
    assert not learned.own.all()
    assert len(learned.windows) == len(learned.rows)
    kept = [rows.texts[row] for row in np.flatnonzero(aside)]
    assert not any(text in other for text in kept for other in learned.rows.texts)
    np.testing.assert_array_equal(lesson.rows.label, rows.label[lesson.made_of])
    # Of each text that holds others, all parts are in its group.
    of_text = dict(zip(lesson.rows.texts, lesson.groups.tolist(), strict=True))
    for text, group in of_text.items():
        parts = {part.strip() for part in text.split("\n\n")} & set(rows.texts)
        assert {of_text[part] for part in parts} <= {group}
    # Windows are those of the texts, and figures of texts as they are.
    row = int(np.flatnonzero(~lesson.own)[0])
    alone, _ = shop.windows(READING, [lesson.rows.texts[row]])
    np.testing.assert_array_equal(lesson.windows[np.array([row])].values, alone.values)
    less = lesson_of(shop, READING, rows, layers=(1,), composed=False, keep_aside=False)
    assert less.rows is rows
    assert less.learned.all()
    assert less.windows.values.shape[1] == alone.values.shape[1] // 2


def test_sources_are_left_out_with_what_holds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(composed, "N_SHARDS", 1)
    monkeypatch.setattr("splinellm.classifiers.leaving_out.JUDGED", ("jigsaw",))
    shop = Workshop(tmp_path, Pooling(window=4, stride=2))
    shop._backbones["tiny"] = tiny_backbone("llama")
    lesson = lesson_of(shop, READING, some_rows(), keep_aside=False)
    learned: list[np.ndarray] = []
    measured: list[int] = []
    settings = PooledSettings(Pooling(window=4, stride=2), n_components=None)
    monkeypatch.setattr(
        "splinellm.learn.pooled_material.Material.fit_once",
        lambda _self, rows, _design: learned.append(rows),
    )
    monkeypatch.setattr(
        "splinellm.classifiers.leaving_out.window_scores",
        lambda _material, _scorer, rows: measured.extend(rows.tolist()) or {},
    )
    with pytest.raises(AttributeError):
        lesson.judged(settings)
    assert set(lesson.rows.source[learned[0]]) == {"davidson", DOMAINS}
    assert not any("jigsaw" in lesson.rows.texts[row] for row in learned[0])
    assert measured == np.flatnonzero(lesson.own & (lesson.rows.source == "jigsaw")).tolist()
