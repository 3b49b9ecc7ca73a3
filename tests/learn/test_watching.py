"""Sketches of tables: what is like them passes, what has moved does not, others are refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from splinellm.errors import ArtifactError, ConfigurationError, TableFormatError
from splinellm.learn.classifier import Classifier
from splinellm.learn.comparing import column_distances, effect_sizes
from splinellm.learn.watching import (
    Sketch,
    columns_of,
    read_sketch,
    watched_values,
    write_sketch,
)
from tests.service.fakes import FakeBackbone, fake_classifiers
from tests.tables import make

N_COLUMNS = 60


def sampled(n_rows: int, seed: int) -> np.ndarray:
    """Rows of columns that depend on each other, with ties and a heavy tail, as features have."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(n_rows, 1)) + random.normal(size=(n_rows, N_COLUMNS))
    values[:, 0] = random.integers(0, 4, n_rows)
    values[:, 1] = random.pareto(1.5, n_rows)
    return values


def sketch_of(n_rows: int = 800) -> Sketch:
    return Sketch.of([f"c{i}" for i in range(N_COLUMNS)], sampled(n_rows, seed=0))


def test_rows_like_the_sketch_stay_below_the_limit() -> None:
    sketch = sketch_of()
    values = [sketch.drift(sampled(300, seed)).value for seed in range(1, 101)]
    assert max(values) < 1
    assert np.median(values) > 0.3  # and the limit is not beyond all reach


@pytest.mark.parametrize("column", [0, 1, 30])
def test_one_column_that_moved_is_drift_and_named(column: int) -> None:
    values = sampled(300, seed=1)
    values[:, column] += 1.5 * (1 if column != 1 else np.median(values[:, 1]))
    found = sketch_of().drift(values)
    assert found.value > 1
    assert found.largest(1) == [column]
    record = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert record["columns"][column]["column"] == f"c{column}"
    assert record["rows"] == [800, 300]


def test_another_spread_is_drift_though_the_mean_stays() -> None:
    values = sampled(300, seed=1)
    middle = sampled(800, seed=0)[:, 5].mean()
    values[:, 5] = middle + 3 * (values[:, 5] - values[:, 5].mean())
    found = sketch_of().drift(values)
    assert found.value > 1
    assert found.effects.low[5] < 0 < found.effects.high[5]


def test_a_sketch_gives_the_numbers_that_its_rows_give() -> None:
    a, b = sampled(800, seed=0), sampled(300, seed=1)
    found = sketch_of().drift(b)
    np.testing.assert_allclose(found.effects.size, effect_sizes(a, b).size, atol=1e-9)
    np.testing.assert_allclose(found.distances, column_distances(a, b), atol=1 / 256 + 1e-9)


def test_a_sketch_is_read_as_it_was_written_and_holds_no_row(tmp_path: Path) -> None:
    table = make(150)
    names = columns_of(table, None)
    values = watched_values(names, table.n_tokens, {}, table)
    sketch = Sketch.of(names, values, table.provenance)
    write_sketch(sketch, tmp_path / "r.json")
    found = read_sketch(tmp_path / "r.json")
    assert found.names == (*table.names, "n_tokens")
    assert found.provenance == table.provenance
    np.testing.assert_array_equal(found.quantiles, sketch.quantiles)
    np.testing.assert_array_equal(found.drift(values).distances, sketch.drift(values).distances)
    with pytest.raises(TableFormatError, match="no column 'x'"):
        watched_values(["x"], table.n_tokens, {}, table)


@pytest.mark.parametrize(
    "change",
    [
        {"reference_version": 2},
        {"names": ["a"]},
        {"quantiles": [1.0]},
        {"moments": {}},
        {"provenance": {"schema_version": 0}},
    ],
)
def test_what_is_no_sketch_is_refused(change: dict[str, object]) -> None:
    record = json.loads(sketch_of().to_json())
    with pytest.raises(TableFormatError):
        Sketch.from_json(json.dumps(record | change))
    with pytest.raises(TableFormatError):
        Sketch.from_json("[1]")


def test_too_few_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="a reference has 99 rows"):
        sketch_of(99)
    with pytest.raises(ConfigurationError, match="what is compared has 5 rows"):
        sketch_of().drift(sampled(5, seed=1))
    with pytest.raises(ConfigurationError, match="cannot read"):
        read_sketch(tmp_path / "none.json")


def test_a_classifier_that_does_not_compute_what_is_watched_is_refused() -> None:
    classifier = fake_classifiers(FakeBackbone())[0]  # type: ignore[arg-type]
    card = classifier.card
    features = card.provenance
    sketch = replace(sketch_of(), provenance=features)
    sketch.require(classifier)
    others = {
        "weights_sha256": replace(features, weights_sha256="1" * 64),
        "features": replace(features, features=("sign_mean", *features.features)),
        "layers": replace(features, layers=(0, 5)),
        "dtype": replace(features, dtype="bfloat16"),
    }
    for name, other in others.items():
        with pytest.raises(ArtifactError, match=name):
            replace(sketch, provenance=other).require(classifier)
    scored = replace(sketch, names=("probability.toxic",), classifier="")
    scored.require(classifier)
    with pytest.raises(ArtifactError, match="another classifier"):
        scored.require(Classifier(classifier.estimators, replace(card, classifier_sha256="1")))
    with pytest.raises(ArtifactError, match=r"has no probability\.mild"):
        replace(scored, names=("probability.mild",)).require(classifier)
