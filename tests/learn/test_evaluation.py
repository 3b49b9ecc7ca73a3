"""Evaluation: honest baselines, honest splits."""

from __future__ import annotations

import numpy as np
import pytest

from splinellm.learn import evaluation
from splinellm.learn.evaluation import Score, evaluate, length_warning
from splinellm.learn.labels import Labels
from splinellm.learn.splits import Split, leave_one_out, stratified_splits
from splinellm.table import FeatureTable
from tests.learn.tables import balanced, learnable_table

TARGET = balanced(150)
BINARY = Labels("binary", ("clean", "toxic"), TARGET)
SPLITS = stratified_splits(BINARY, None, n_splits=3)


def with_lengths(n_tokens: np.ndarray) -> FeatureTable:
    table = learnable_table(np.zeros(len(n_tokens), np.int64), shift=0.0)
    return FeatureTable(table.values, n_tokens, table.truncated, table.provenance)


def by_item(scores: list[Score]) -> dict[tuple[str, str], float]:
    return {(score.item, score.label): score.mean for score in scores}


def measured(table: FeatureTable, labels: Labels, splits: list[Split], **options: object) -> dict:  # type: ignore[type-arg]
    found = evaluate(table, labels, splits, **{"ablations": False, **options})  # type: ignore[arg-type]
    return by_item(list(found))


@pytest.mark.parametrize("kind", ["longer", "neither short nor long", "same"])
def test_length_baseline(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 5, len(TARGET))
    n_tokens = {
        "longer": 10 + 20 * TARGET + noise,
        # One threshold on the length would be no better than chance here.
        "neither short nor long": np.where(TARGET == 1, 50, balanced(150, 4) // 2 * 80 + 10)
        + noise,
        "same": np.full(len(TARGET), 7),
    }[kind]
    area = measured(with_lengths(n_tokens), BINARY, SPLITS)["length", "toxic"]
    assert area == 0.5 if kind == "same" else area > 0.97


def test_length_warning_names_what_length_separates() -> None:
    low, high = (Score("baseline", "length", name, (x,)) for name, x in [("a", 0.6), ("b", 0.95)])
    other = Score("features", "all", "c", (1.0,))
    assert length_warning([low, other]) is None
    assert "'b' (95.0%)" in str(length_warning([low, high, other]))


def test_noise_scores_like_noise_and_texts_and_states_are_measured() -> None:
    table = with_lengths(np.full(len(TARGET), 7))
    texts = [f"good word {i % 7}" if y else f"bad thing {i % 7}" for i, y in enumerate(TARGET)]
    hidden = np.random.default_rng(0).normal(size=(len(TARGET), 4)) + 3 * TARGET[:, None]
    found = measured(table, BINARY, SPLITS, texts=texts, hidden=hidden)
    assert abs(found["logistic, all", "toxic"] - 0.5) < 0.15
    assert found["TF-IDF", "toxic"] == 1
    assert found["mean hidden state", "toxic"] > 0.95


def test_tuning_sees_training_rows_only(monkeypatch: pytest.MonkeyPatch) -> None:
    table = learnable_table(TARGET)
    seen: list[np.ndarray] = []
    real = evaluation.best_c

    def spy(values: np.ndarray, target: np.ndarray, splits: list[Split]) -> float:
        seen.append(values)
        for learn, test in splits:
            assert not set(learn) & set(test)
        return real(values, target, splits)

    monkeypatch.setattr(evaluation, "best_c", spy)
    measured(table, BINARY, SPLITS)
    assert len(seen) == len(SPLITS)
    for values, (learn, _test) in zip(seen, SPLITS, strict=True):
        np.testing.assert_array_equal(values, table.values[learn])


def test_scores_are_of_test_rows_the_model_did_not_see() -> None:
    # Every row is its own class' only clue: a model that saw the test rows would know them all.
    random = np.random.default_rng(0)
    labels = Labels("binary", ("a", "b"), random.permutation(TARGET))
    table = learnable_table(np.zeros(len(TARGET), np.int64), shift=0.0)
    assert measured(table, labels, SPLITS, estimator="boosting")["boosting, all", "b"] < 0.7


def test_multilabel_leaves_out_splits_with_one_side_only() -> None:
    values = np.stack([balanced(90), balanced(90)], axis=1)
    sources = np.arange(90) // 30
    values[sources == 0, 1] = 0  # no positive row to test on
    labels = Labels("multilabel", ("a", "b"), values)
    splits = list(leave_one_out(sources.tolist()).values())
    scores = list(evaluate(learnable_table(values[:, 0]), labels, splits, ablations=False))
    counts = {s.label: len(s.values) for s in scores if s.section == "features"}
    assert counts == {"a": 3, "b": 2}


def test_a_class_that_only_the_left_out_source_has_is_not_scored() -> None:
    # The columns of the others must not move into its place.
    target = balanced(90, 3)
    sources = np.where(target == 0, "only a", "others")
    sources[:30] = "only a"
    labels = Labels("multiclass", ("a", "b", "c"), target)
    table = with_lengths(np.full(90, 7))
    values = table.values.copy()
    values[:, 0] += np.where(target == 1, 5, -5)
    table = FeatureTable(values, table.n_tokens, table.truncated, table.provenance)
    found = measured(table, labels, [leave_one_out(sources)["only a"]])
    assert ("logistic, all", "a") not in found
    assert found["logistic, all", "b"] > 0.95


def test_leaving_out_the_only_source_scores_nothing() -> None:
    splits = list(leave_one_out(["x"] * len(TARGET)).values())
    assert measured(learnable_table(TARGET), BINARY, splits) == {}


def test_ablations_take_their_own_columns() -> None:
    table = learnable_table(np.zeros(len(TARGET), np.int64), shift=0.0, features=("sign_mean",))
    values = table.values.copy()
    values[:, 1] += 5 * TARGET  # layer 2, the second of two
    table = FeatureTable(values, table.n_tokens, table.truncated, table.provenance)
    scores = list(evaluate(table, BINARY, SPLITS))
    areas = {(s.section, s.item): s.mean for s in scores}
    assert areas["layer", "2"] > 0.99
    assert areas["layer", "0"] < 0.7
    assert areas["first layers", "1"] == areas["layer", "0"]
    assert not any(section == "feature" for section, _ in areas)  # one is all
