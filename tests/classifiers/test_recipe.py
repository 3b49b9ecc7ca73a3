"""The recipe of the boxed classifiers, on a few rows and a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from splinellm.classifiers import build, leaving_out
from splinellm.classifiers.rows import OTHER, Rows, domain_rows, jigsaw_types, toxicity_rows
from splinellm.classifiers.sources import JIGSAW_LABELS
from splinellm.classifiers.workshop import Reading, Workshop, of_layers
from splinellm.learn.lengths import BY_LENGTH, TRIED_UP_TO
from splinellm.learn.pooled_material import Material, PooledSettings
from splinellm.learn.pooled_training import train_windows
from splinellm.learn.pooling import Pooling
from splinellm.learn.windows import read_windows
from tests.tiny import tiny_backbone

READING = Reading("tiny", (0, 1), "blocks:4")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Files as the sources have them, with rows of our own."""
    random = np.random.default_rng(0)
    flags = random.integers(2, size=(40, 6))
    jigsaw = pd.DataFrame(flags, columns=list(JIGSAW_LABELS))
    files = {
        "jigsaw": jigsaw.assign(text=[f"talk {i} &amp; page" for i in range(40)]),
        "davidson": pd.DataFrame(
            {
                "text": [f"tweet {i}" for i in range(1600)],
                "label": ["offensive", "hate", "neither", "offensive"] * 400,
            }
        ),
        "surge": pd.DataFrame({"text": ["a b", "c d"], "label": ["toxic", "not_toxic"]}),
        "wiki_detox": pd.DataFrame({"text": ["e", "f", "g"], "label": [1, 0, 0]}),
        "toxigen_prompts": pd.DataFrame({"text": ["h", "i"], "label": ["hate", "neutral"]}),
        "toxic_spans": pd.DataFrame(
            {"text": ["you &lt; o\u200baf", "fine"], "spans": [json.dumps([9, 10, 11, 12]), "[]"]}
        ),
        "domains": pd.DataFrame(
            {"text": ["x = 1", "let it be", "talk"], "label": ["code", "law", "wiki_talk"]}
        ),
    }
    for name, frame in files.items():
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
    return tmp_path


def test_labels_do_not_follow_from_sources(data: Path) -> None:
    rows = toxicity_rows(data)
    toxic = rows.label == "toxic"
    for source in ("davidson", "wiki_detox", "surge", "templates"):
        own = rows.source == source
        assert rows.weights[own & toxic].sum() == pytest.approx(rows.weights[own & ~toxic].sum())
    tweets = rows.source == "davidson"
    assert rows.weights[tweets].mean() == pytest.approx(0.15)
    assert toxic[tweets].mean() == 0.75
    assert set(rows.label[rows.source == "domains"]) == {"clean"}
    assert "talk" not in rows.texts  # a talk page of another source
    assert rows.labels.classes == ("clean", "toxic")


def test_texts_are_read_normalised_and_marks_with_them(data: Path) -> None:
    rows = toxicity_rows(data)
    (row,) = [i for i, text in enumerate(rows.texts) if text == "you < oaf"]
    marked = rows.marks[row]
    assert marked is not None
    assert "".join(np.array(list(rows.texts[row]))[marked]) == "oaf"
    assert rows.texts[0] == "talk 0 & page"
    assert rows.marks[0] is None
    part = rows[np.array([row, 0])]
    assert part.texts == ["you < oaf", "talk 0 & page"]
    assert part.marks[0] is marked


def test_domains_have_a_class_of_none(data: Path) -> None:
    rows = domain_rows(data)
    assert set(rows.label) == {"code", "law", "wiki_talk", OTHER}
    assert set(rows.label[rows.source != "domains"]) == {OTHER}


def test_pieces_are_in_the_group_of_their_text() -> None:
    texts = ["the cat sat on the mat", "A dog. It barks.", "The cat sat on the mat!", "It barks."]
    label = np.array(["law", "code", "law", "code"])
    origins = np.array([0, 1, 2, 1])
    rows = Rows(texts, label, label, np.ones(4), [None] * 4, origins, np.arange(4) == 3)
    groups = build.groups_of(rows)
    assert groups is not None
    assert groups[0] == groups[2] != groups[1] == groups[3]
    part = rows[np.array([3, 1])]
    assert part.is_piece is not None
    assert part.is_piece.tolist() == [True, False]
    groups = build.groups_of(part)
    assert groups is not None
    assert groups[0] == groups[1]


def test_nothing_like_the_trial_of_domains_is_trained_on(data: Path) -> None:
    texts = {text.casefold() for text in domain_rows(data).texts}
    assert "yes" not in texts
    assert "42" not in texts
    assert "import numpy as np" not in texts


def test_types(data: Path) -> None:
    rows, labels = jigsaw_types(data)
    assert labels.classes == JIGSAW_LABELS
    assert len(rows) == len(labels) == 40


def shop(folder: Path) -> Workshop:
    made = Workshop(folder, Pooling(window=4, stride=2))
    made._backbones["tiny"] = tiny_backbone("llama")
    return made


def test_windows_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["one text of a few words", "another", "a third text that is the longest of all"]
    made = shop(tmp_path)
    windows, source = made.windows(READING, texts)
    extractor = READING.extractor(tiny_backbone("llama"))
    expected = read_windows(extractor, texts, made.pooling)
    np.testing.assert_array_equal(windows.values, expected.values)
    np.testing.assert_array_equal(windows.characters, expected.characters)
    monkeypatch.setattr("splinellm.classifiers.workshop.read_windows", None)
    again, _ = shop(tmp_path).windows(READING, texts)
    np.testing.assert_array_equal(again.values, windows.values)
    np.testing.assert_array_equal(again.starts, windows.starts)
    assert source.granularity == "token"


def test_fewer_layers_are_what_reading_them_gives(tmp_path: Path) -> None:
    texts = ["one text of a few words", "another"]
    made = shop(tmp_path)
    windows, source = of_layers(*made.windows(READING, texts), (1,))
    expected, told = made.windows(Reading("tiny", (1,), "blocks:4"), texts)
    np.testing.assert_array_equal(windows.values, expected.values)
    assert source == told


def two_sources() -> Rows:
    random = np.random.default_rng(0)
    nouns = ["cook", "poet", "judge", "aunt", "coach"]
    label = np.array(["toxic", "clean"] * 40)
    texts = [
        f"the {random.choice(nouns)} is {'a vile oaf' if one == 'toxic' else 'very kind'}"
        for one in label
    ]
    source = np.array(["jigsaw"] * 40 + ["surge"] * 40)
    return Rows(texts, label, source, np.ones(80), [None] * 80)


@pytest.mark.parametrize("boxed", [True, False])
def test_texts_longer_than_the_rows_of_a_boxed_classifier_are_tried_elsewhere(
    tmp_path: Path, *, boxed: bool
) -> None:
    """So no card of one names a length from which users are warned."""
    rows = two_sources()
    windows, source = shop(tmp_path).windows(READING, rows.texts)
    settings = PooledSettings(Pooling(window=4, stride=2), strengths=(0.01,))
    make = build.trained if boxed else train_windows
    card = make(windows, rows.texts, rows.labels, source, name="domain", settings=settings).card
    assert (TRIED_UP_TO in card.metrics[BY_LENGTH]) is not boxed
    assert bool(card.weaknesses) is boxed
    assert (card.normalisation is not None) is boxed


def test_a_source_left_out_is_judged_by_what_the_others_say(tmp_path: Path) -> None:
    rows = two_sources()
    texts = rows.texts
    windows, _ = shop(tmp_path).windows(READING, texts)
    settings = PooledSettings(Pooling(window=4, stride=2), hybrid=True, n_components=None)
    material = Material(windows, texts, rows.labels, None, settings, rows.weights)
    found = leaving_out.judged(material, rows, ("jigsaw", "surge"))
    for row in found.values():
        assert set(row) == {"all channels", "geometry", "lexicon"}
        assert row["lexicon"] == 1.0
        assert row["all channels"] > row["geometry"]


def test_every_boxed_classifier_has_a_recipe_and_weaknesses() -> None:
    assert set(build.BUILDERS) == set(build.WEAKNESSES)
