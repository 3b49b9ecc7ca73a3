"""A guard stops the row that goes the wrong way, and says where."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from transformers import PreTrainedModel, StoppingCriteria

from splinellm import Guard, attach
from splinellm.errors import (
    ArtifactError,
    ConfigurationError,
    NothingRecordedError,
    TableFormatError,
)
from splinellm.learn.labels import Labels
from splinellm.learn.pooled import Pooled
from splinellm.learn.pooled_training import PooledSettings, train_pooled
from splinellm.learn.pooling import Pooling
from splinellm.learn.training import train
from splinellm.live.recorder import LiveRecorder
from tests.live.models import Force, causal_lm, check, extractor_of, left_padded, options
from tests.tiny import random_prompts

GOOD, BAD = range(10, 60), range(200, 250)  # two kinds of text: their token ids
N_NEW = 16


def text(kind: range, n_tokens: int, seed: int) -> list[int]:
    """Made-up text of one kind."""
    generator = np.random.default_rng(seed)
    return generator.choice(np.array(kind), n_tokens).tolist()


PROMPTS = [text(GOOD, 5, 1), text(GOOD, 9, 2), text(GOOD, 3, 3)]


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    model = causal_lm()
    with torch.no_grad():  # the two kinds lie in different places, as topics do in a trained model
        model.model.embed_tokens.weight[list(BAD)] += torch.linspace(-1, 1, 32)
    return model


@pytest.fixture(scope="module")
def data(model: PreTrainedModel) -> tuple[Any, np.ndarray]:
    """Features of texts that end badly or do not, and which do."""
    texts = [text(GOOD, 3 + n % 10, n) + text(GOOD, n % 7, n + 500) for n in range(60)]
    texts += [text(GOOD, 3 + n % 10, n) + text(BAD, 5 + n % 7, n + 500) for n in range(60)]
    return extractor_of(model, "blocks").extract(texts), np.repeat([0, 1], 60)


@pytest.fixture(scope="module")
def classifier(data: tuple[Any, np.ndarray]) -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.1)).fit(data[0].values, data[1])


def run(
    model: PreTrainedModel,
    classifier: Any,
    *,
    kinds: tuple[range, ...] = (GOOD, BAD, GOOD),
    features: str = "blocks",
    **settings: Any,
) -> tuple[Guard, LiveRecorder, Tensor]:
    """Generate texts of these kinds under a guard."""
    tokens = [text(kind, N_NEW, 40 + row) for row, kind in enumerate(kinds)]
    with attach(model, features=features) as recorder:
        guard = Guard(recorder, classifier, **settings)
        out = generate(model, guard, tokens)
    return guard, recorder, out


def generate(model: PreTrainedModel, guard: StoppingCriteria, tokens: list[list[int]]) -> Tensor:
    n_rows = len(tokens)
    return model.generate(
        **left_padded(PROMPTS[:n_rows]),
        **options(max_new_tokens=N_NEW, eos_token_id=300),
        logits_processor=[Force(tokens, max(map(len, PROMPTS[:n_rows])))],
        stopping_criteria=[guard],
    )


@pytest.mark.parametrize("every", [1, 3, 8])
def test_only_the_bad_row_is_stopped_and_the_report_is_right(
    model: PreTrainedModel, classifier: Any, every: int
) -> None:
    guard, recorder, out = run(model, classifier, threshold=0.8, every=every)
    assert list(guard.stops) == [1]
    stop = guard.stops[1]
    assert 0 < stop.n_generated < N_NEW - 1
    assert stop.n_generated % every == 0
    assert stop.n_tokens == len(PROMPTS[1]) + stop.n_generated
    # The probability is that of the text up to there, and one look earlier it was too small.
    written = out[1, 9 - len(PROMPTS[1]) :].tolist()
    extractor = extractor_of(model, "blocks")
    texts = [written[: stop.n_tokens], written[: stop.n_tokens - every]]
    found = classifier.predict_proba(extractor.extract(texts).values)[:, 1]
    assert stop.probability == pytest.approx(found[0], abs=1e-4)
    assert found[0] >= 0.8 > found[1]
    # The row ends with the token that was chosen when it was stopped; then comes padding.
    assert (out[1, 9 + stop.n_generated + 1 :] == 3).all()
    # Its features stay those that were judged; the others went on to the end.
    wanted = [PROMPTS[0] + text(GOOD, N_NEW, 40)[:-1], texts[0]]
    wanted.append(PROMPTS[2] + text(GOOD, N_NEW, 42)[:-1])
    check(recorder.table, extractor, wanted)


def test_nothing_is_stopped_below_the_threshold(model: PreTrainedModel, classifier: Any) -> None:
    guard, recorder, _ = run(model, classifier, threshold=1.0, every=1)
    assert guard.stops == {}
    assert recorder.n_tokens.tolist() == [len(prompt) + N_NEW - 1 for prompt in PROMPTS]
    guard, _, _ = run(model, classifier, kinds=(GOOD, GOOD, GOOD), threshold=0.8, every=1)
    assert guard.stops == {}


def test_threshold_of_zero_stops_at_the_prompt(model: PreTrainedModel, classifier: Any) -> None:
    guard, _, out = run(model, classifier, threshold=0.0)
    assert {row: stop.n_generated for row, stop in guard.stops.items()} == {0: 0, 1: 0, 2: 0}
    assert [stop.n_tokens for stop in guard.stops.values()] == [5, 9, 3]
    assert out.shape[1] == 10  # the token that had been chosen


def test_all_rows_stopped_end_the_generation(model: PreTrainedModel, classifier: Any) -> None:
    guard, _, out = run(model, classifier, kinds=(BAD, BAD, BAD), threshold=0.8, every=2)
    assert sorted(guard.stops) == [0, 1, 2]
    assert out.shape[1] == 9 + max(stop.n_generated for stop in guard.stops.values()) + 1


def test_a_row_that_has_ended_is_not_stopped(model: PreTrainedModel, classifier: Any) -> None:
    tokens = [text(kind, N_NEW, 40 + row) for row, kind in enumerate((GOOD, BAD, GOOD))]
    with attach(model, features="blocks") as recorder:
        guard = Guard(recorder, classifier, threshold=0.8, every=15)
        tokens[1][12] = 300  # ends by itself between two looks
        generate(model, guard, tokens)
        assert guard.stops == {}
        assert recorder.n_tokens.tolist() == [20, 21, 18]


def test_a_guard_begins_anew_with_every_generation(model: PreTrainedModel, classifier: Any) -> None:
    bad = [text(BAD, N_NEW, 40)] * 2
    good = [text(GOOD, N_NEW, 40)] * 3
    with attach(model, features="blocks") as recorder:
        guard = Guard(recorder, classifier, threshold=0.8, every=4)
        generate(model, guard, bad)
        first = dict(guard.stops)
        assert sorted(first) == [0, 1]
        generate(model, guard, good)
        assert guard.stops == {}
        generate(model, guard, bad)
        assert guard.stops == first


def test_without_a_cache(model: PreTrainedModel, classifier: Any) -> None:
    expected, _, _ = run(model, classifier, threshold=0.8, every=2)
    tokens = [text(kind, N_NEW, 40 + row) for row, kind in enumerate((GOOD, BAD, GOOD))]
    with attach(model, features="blocks") as recorder:
        guard = Guard(recorder, classifier, threshold=0.8, every=2)
        model.generate(
            **left_padded(PROMPTS),
            **options(max_new_tokens=N_NEW, eos_token_id=300, use_cache=False),
            logits_processor=[Force(tokens, 9)],
            stopping_criteria=[guard],
        )
    assert list(guard.stops) == list(expected.stops)
    assert guard.stops[1].n_tokens == expected.stops[1].n_tokens
    assert recorder.n_tokens.tolist() == [20, guard.stops[1].n_tokens, 18]


def test_labels(model: PreTrainedModel, data: tuple[Any, np.ndarray]) -> None:
    table, bad = data
    named = LogisticRegression(C=100, max_iter=1000).fit(table.values, np.array(["ok", "bad"])[bad])
    guard, _, _ = run(model, named, threshold=0.8, label="bad")
    assert list(guard.stops) == [1]
    guard, _, _ = run(model, named, threshold=0.8)  # the last of the sorted classes is "ok"
    assert list(guard.stops) == [0, 1, 2]
    recorder = attach(model, features="blocks")
    with pytest.raises(ConfigurationError, match=r"no class 'worse'.*bad, ok"):
        Guard(recorder, named, label="worse")


def test_classifiers_fitted_on_frames(model: PreTrainedModel, data: tuple[Any, np.ndarray]) -> None:
    table, bad = data
    frame = pd.DataFrame(table.values, columns=list(table.names))
    fitted = LogisticRegression(C=100, max_iter=1000).fit(frame, bad)
    guard, _, _ = run(model, fitted, threshold=0.8)
    assert list(guard.stops) == [1]
    shuffled = LogisticRegression(C=100, max_iter=1000).fit(frame[frame.columns[::-1]], bad)
    with attach(model, features="blocks") as recorder, pytest.raises(ConfigurationError):
        Guard(recorder, shuffled)


def test_classifiers_of_this_library(model: PreTrainedModel, data: tuple[Any, np.ndarray]) -> None:
    table, bad = data
    trained = train(table, Labels("binary", ("ok", "bad"), bad), name="bad endings")
    guard, _, _ = run(model, trained, threshold=0.7, label="bad")
    assert list(guard.stops) == [1]
    # More layers or features than it was trained on are fine, others are not.
    guard, _, _ = run(model, trained, features="paper,blocks", threshold=0.7, label="bad")
    assert list(guard.stops) == [1]
    for settings in ({"features": "spline"}, {"features": "blocks", "layers": "0-1"}):
        with (
            attach(model, **settings) as recorder,
            pytest.raises(ArtifactError, match=r"attach\(model, classifier=…\)"),
        ):
            Guard(recorder, trained)
    with attach(model, classifier=trained) as recorder:  # what the error says
        Guard(recorder, trained)


def pooled_classifier(features: str = "blocks", **options: Any) -> Pooled:
    """Of windows of four tokens; made up: the arrays are what training would choose."""
    settings: dict[str, Any] = {"hybrid": False, **options}
    random = np.random.default_rng(3)
    texts = [text(GOOD, 6 + n % 9, n) for n in range(30)]
    texts += [text(GOOD, 3, n) + text(BAD, 4 + n % 7, n + 500) for n in range(30)]
    order = random.permutation(60)
    extractor = extractor_of(settings.pop("model"), features)
    tokenizer = extractor.backbone.tokenizer
    return train_pooled(
        [tokenizer.decode(texts[i]) for i in order],
        Labels("binary", ("ok", "bad"), (order >= 30).astype(int)),
        extractor,
        name="pooled",
        settings=PooledSettings(Pooling(window=4, stride=2), n_components=None, **settings),
    )


@pytest.mark.parametrize("features", ["blocks", "paper", "blocks,complexity:0.4"])
@pytest.mark.parametrize("use_cache", [True, False])
def test_pooled_classifiers_are_shown_complete_windows(
    model: PreTrainedModel, features: str, use_cache: bool
) -> None:
    classifier = pooled_classifier(features, model=model)
    extractor = extractor_of(model, features)
    seen: list[tuple[int, np.ndarray]] = []

    class Watch(Guard):
        def _look(self, n_generated: int) -> None:
            seen.append((n_generated, self._probabilities()))
            super()._look(n_generated)

    kinds = (GOOD, BAD, GOOD)
    tokens = [text(kind, N_NEW, 40 + row) for row, kind in enumerate(kinds)]
    with attach(model, features=features) as recorder:
        guard = Watch(recorder, classifier, threshold=1.0, every=3, label="bad")
        model.generate(
            **left_padded(PROMPTS),
            **options(max_new_tokens=N_NEW, use_cache=use_cache),
            logits_processor=[Force(tokens, 9)],
            stopping_criteria=[guard],
        )
    assert [n for n, _ in seen] == [0, 3, 6, 9, 12, 15]
    for n_generated, found in seen:
        for row, prompt in enumerate(PROMPTS):
            ids = prompt + tokens[row][:n_generated]
            n = len(ids) if len(ids) <= 4 else 4 + 2 * ((len(ids) - 4) // 2)
            table = extractor.extract([ids[:n]], granularity="token")
            wanted = classifier.predict_table(table).probabilities
            np.testing.assert_allclose(found[row : row + 1], wanted, atol=2e-3)
    assert np.ptp([found[1, 1] for _, found in seen]) > 0.01


def test_a_pooled_classifier_stops_the_bad_row(model: PreTrainedModel) -> None:
    classifier = pooled_classifier(model=model)
    # Trained on texts, whose tokens are others: what tells these tokens apart is put in its place.
    ids = [token for n in range(20) for token in text(GOOD, 9, n) + text(BAD, 9, n)]
    table = extractor_of(model, "blocks").extract(
        [ids[i : i + 18] for i in range(0, len(ids), 18)], granularity="token"
    )
    fitted = LogisticRegression(C=100, max_iter=1000).fit(table.values, np.isin(ids, BAD))
    scorer = classifier.scorer
    scorer.coef_, scorer.intercept_ = fitted.coef_, fitted.intercept_
    scorer.calibration_ = np.zeros_like(scorer.calibration_)
    scorer.calibration_[:, 0] = 1.0
    guard, found, _ = run(model, classifier, threshold=0.7, every=1, label="bad")
    assert list(guard.stops) == [1]
    assert 0 < guard.stops[1].n_generated < N_NEW - 1
    assert found.n_tokens[1] == guard.stops[1].n_tokens


def test_tokens_are_scored_from_the_next_text_on(model: PreTrainedModel) -> None:
    classifier = pooled_classifier(model=model)
    with attach(model, features="blocks") as recorder:
        late = Guard(recorder, classifier, threshold=0.5)
        model(torch.tensor([PROMPTS[1]]))
        assert len(recorder.token_scores(late)[0]) == 9
        another = Guard(recorder, classifier, threshold=0.5)
        with pytest.raises(NothingRecordedError, match="had begun to read"):
            recorder.token_scores(another)


def test_pooled_classifiers_of_what_is_not_shown(model: PreTrainedModel) -> None:
    classifier = pooled_classifier(model=model)
    card = classifier.card
    of_encoder = replace(card, provenance=replace(card.provenance, architecture="bert"))
    with attach(model, features="blocks") as recorder:
        with pytest.raises(ArtifactError, match="an encoder"):
            Guard(recorder, Pooled(classifier.estimators, of_encoder))
        with pytest.raises(ArtifactError, match="reads words beside features"):
            Guard(recorder, pooled_classifier(model=model, hybrid=True))
    with (
        attach(model, features="spline") as recorder,
        pytest.raises(ArtifactError, match="features"),
    ):
        Guard(recorder, classifier)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"every": 0}, "every is 0"),
        ({"every": 1.5}, "every is of type float"),
        ({"threshold": "0.5"}, "threshold is of type str"),
        ({"threshold": 1.5}, r"threshold 1\.5"),
        ({"threshold": float("nan")}, "threshold nan"),
    ],
)
def test_impossible_arguments(
    model: PreTrainedModel, classifier: Any, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Guard(attach(model, features="blocks"), classifier, **settings)


def test_other_columns_are_refused(model: PreTrainedModel, classifier: Any) -> None:
    with attach(model) as recorder, pytest.raises(ConfigurationError, match="24 columns"):
        Guard(recorder, classifier)


def test_what_cannot_be_guarded_is_refused(model: PreTrainedModel, classifier: Any) -> None:
    with attach(model, features="blocks") as recorder:
        with pytest.raises(ConfigurationError, match="LogisticRegression is no fitted classifier"):
            Guard(recorder, LogisticRegression())
        with pytest.raises(ConfigurationError, match="a NoneType is no recorder"):
            Guard(None, classifier)  # type: ignore[arg-type]
    recorder = attach(model, features="blocks", granularity="token")
    with pytest.raises(TableFormatError, match="the recorder has a row per token"):
        Guard(recorder, classifier)


def test_a_probability_that_is_not_finite_stops_nothing_in_silence(
    model: PreTrainedModel, classifier: Any
) -> None:
    class Overflowing:
        classes_ = classifier.classes_

        def predict_proba(self, values: np.ndarray) -> np.ndarray:
            found = np.full((len(values), 2), 0.1)
            found[1] = np.nan
            return found

    with pytest.raises(ArtifactError, match="probability of row 1 is not finite"):
        run(model, Overflowing(), threshold=0.8)


def test_beams_are_refused(model: PreTrainedModel, classifier: Any) -> None:
    with attach(model, features="blocks") as recorder:
        guard = Guard(recorder, classifier)
        with pytest.raises(ConfigurationError, match="beams"):
            model.generate(
                **left_padded(random_prompts(4, 4)),
                **options(num_beams=2),
                stopping_criteria=[guard],
            )
