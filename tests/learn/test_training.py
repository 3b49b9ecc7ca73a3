"""Training: figures that hold, probabilities that mean something, thresholds that reach."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from splinellm.errors import ArtifactError, ConfigurationError, LabelError
from splinellm.learn.estimators import SelfTrained, plain_estimator
from splinellm.learn.handed import require_match
from splinellm.learn.labels import Labels
from splinellm.learn.metrics import Target, choose_threshold
from splinellm.learn.training import train
from tests.fakes import fake_provenance
from tests.learn.tables import balanced, learnable_table


def binary(values: np.ndarray) -> Labels:
    return Labels("binary", ("clean", "toxic"), values)


@pytest.mark.parametrize("estimator", ["logistic", "forest", "boosting"])
def test_a_learnable_task_is_learnt_and_noise_is_not(estimator: str) -> None:
    target = balanced(300)
    for shift, low, high in [(1.5, 0.9, 1.0), (0.0, 0.25, 0.75)]:
        table = learnable_table(target, shift=shift)
        card = train(table, binary(target), name="t", estimator=estimator).card  # type: ignore[arg-type]
        assert low <= card.metrics["held out"]["toxic"]["roc_auc"] <= high


def test_probabilities_of_a_rare_class_are_calibrated() -> None:
    # Balanced class weights alone would say "one half" where one in ten is true.
    target = (np.arange(2000) % 10 == 0).astype(np.int64)
    table = learnable_table(target, shift=0.3)
    predictions = train(table, binary(target), name="t").predict_table(
        learnable_table(target, shift=0.3, seed=0)
    )
    scores = predictions.probabilities[:, 1]
    assert abs(scores.mean() - 0.1) < 0.03
    assert brier_score_loss(target, scores) < 0.1 * 0.9


def test_multilabel_probabilities_follow_the_label_order() -> None:
    values = np.stack([balanced(400), balanced(400, 4) // 2], axis=1)
    table = learnable_table(values[:, 0] + 2 * values[:, 1], shift=5)
    labels = Labels("multilabel", ("a", "b"), values)
    predictions = train(table, labels, name="t").predict_table(table)
    assert predictions.to_arrow().column_names == [
        "predicted.a",
        "predicted.b",
        "probability.a",
        "probability.b",
    ]
    assert (predictions.flags == values).mean() > 0.95


def test_multiclass_probabilities_sum_to_one_and_name_the_class() -> None:
    target = balanced(400, 4)
    labels = Labels("multiclass", tuple("abcd"), target)
    table = learnable_table(target, shift=3)
    predictions = train(table, labels, name="t").predict_table(table)
    assert np.allclose(predictions.probabilities.sum(axis=1), 1)
    expected = [labels.classes[i] for i in target]
    assert np.mean([a == b for a, b in zip(predictions.predicted, expected, strict=True)]) > 0.9


def test_a_threshold_for_precision_is_reached_and_stored() -> None:
    target = balanced(1000)
    table = learnable_table(target, shift=0.5)
    plain = train(table, binary(target), name="t").card
    strict = train(table, binary(target), name="t", target=Target("precision", 0.95)).card
    assert strict.thresholds["toxic"] > plain.thresholds["toxic"] == 0.5
    assert strict.metrics["held out"]["toxic"]["precision"] > 0.88
    assert strict.settings["threshold_for"] == "precision 0.95"


def test_an_unreachable_precision_says_so_and_comes_near() -> None:
    target = balanced(300)
    table = learnable_table(target, shift=0.0)
    card = train(table, binary(target), name="t", target=Target("precision", 1.0)).card
    assert card.settings.get("target_not_reached", ["toxic"]) == ["toxic"]
    assert 0 < card.thresholds["toxic"] < 1


def test_choose_threshold_by_hand() -> None:
    truth, scores = np.array([0, 1, 0, 1, 1]), np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    assert choose_threshold(truth, scores, Target("precision", 1.0)) == 0.4
    assert choose_threshold(truth, scores, Target("recall", 1.0)) == 0.2
    assert choose_threshold(1 - truth, -scores * 0, Target("precision", 0.9)) is None


@pytest.mark.parametrize("value", [0.0, 1.1])
def test_impossible_targets_are_refused(value: float) -> None:
    with pytest.raises(ConfigurationError):
        Target("recall", value)


def test_too_few_rows_of_a_class_are_refused() -> None:
    target = (np.arange(100) < 5).astype(np.int64)
    with pytest.raises(LabelError, match="has 5 of 100 rows"):
        train(learnable_table(target), binary(target), name="t")


def test_no_group_is_on_both_sides_of_the_held_out_split() -> None:
    # Copies of a row with one label: a split that ignored groups would know the answers.
    target = np.random.default_rng(0).integers(0, 2, 100).repeat(5)
    noise = learnable_table(np.zeros(100, np.int64), shift=0.0)
    table = noise[np.arange(100).repeat(5)]
    groups = np.arange(100).repeat(5)
    areas = {}
    for title, given in {"kept together": groups, "ignored": None}.items():
        card = train(table, binary(target), name="t", estimator="boosting", groups=given).card
        areas[title] = card.metrics["held out"]["toxic"]["roc_auc"]
    assert areas["kept together"] < 0.75
    assert areas["ignored"] > 0.9


def test_self_training_uses_only_its_share_of_labels() -> None:
    target = balanced(400)
    values = learnable_table(target).values
    model = SelfTrained(labelled_share=0.1).fit(values, target)
    assert (model.estimator_.labeled_iter_ == 0).sum() == 40
    assert (model.predict(values) == target).mean() > 0.9


def test_forest_leaves_shrink_with_the_data() -> None:
    sizes = {n: plain_estimator("forest", n_rows=n).min_samples_leaf for n in (50, 2000, 50_000)}
    assert sizes == {50: 1, 2000: 20, 50_000: 100}


def test_more_layers_and_features_than_needed_are_fine() -> None:
    target = balanced(200)
    table = learnable_table(target, layers=(0, 1, 2))
    part = table.select([0, 2], ["sign_mean", "sign_max"])
    classifier = train(part, binary(target), name="t")
    same = (
        classifier.predict_table(table).probabilities
        == classifier.predict_table(part).probabilities
    )
    assert same.all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights_sha256": "1" * 64}, "weights_sha256 is 1"),
        ({"dtype": "bfloat16"}, "dtype is bfloat16, not float32"),
        ({"max_tokens": 9}, "max_tokens is 9, not 8"),
        ({"tokenizer_probe": (9,)}, "tokenizer_probe"),
        ({"layers": (0,)}, "layers"),
        ({"features": ("sign_mean",)}, "features"),
    ],
)
def test_other_features_are_refused_by_their_first_difference(
    change: dict[str, object], message: str
) -> None:
    with pytest.raises(ArtifactError, match=message):
        require_match(fake_provenance(), fake_provenance(**change))


def test_differences_that_the_caller_answers_for() -> None:
    given = fake_provenance(weights_sha256="1" * 64, max_tokens=9)
    require_match(fake_provenance(), given, ignoring=("weights_sha256", "max_tokens"))
    with pytest.raises(ArtifactError, match="max_tokens is 9, not 8"):
        require_match(fake_provenance(), given, ignoring=("weights_sha256",))


def test_a_chat_template_matters_to_who_reads_conversations_with_it() -> None:
    trained, given = (fake_provenance(chat_template_sha256=name * 64) for name in "ab")
    told = "chat_template_sha256 is b+, not a+ .give the one it was trained with.*--chat-template"
    with pytest.raises(ArtifactError, match=told):
        require_match(trained, given)
    # Who pools scores of tokens reads what is said, and no template.
    require_match(trained.at("token"), given.at("token"))


def test_probabilities_of_plain_arrays() -> None:
    target = balanced(100)
    table = learnable_table(target)
    classifier = train(table, binary(target), name="t")
    found = classifier.probabilities(table.values)
    assert (found == classifier.predict_table(table).probabilities).all()
    assert (found == classifier.estimators[0].predict_proba(table.values)).all()
    assert classifier.probabilities(table.values[:0]).shape == (0, 2)


def test_an_empty_table_has_empty_predictions() -> None:
    target = balanced(100)
    table = learnable_table(target)
    assert len(train(table, binary(target), name="t").predict_table(table[:0])) == 0
