"""Pictures of partitions and of training."""

from __future__ import annotations

import numpy as np
import pytest

from splinellm.errors import ConfigurationError
from splinellm.plots import slice_picture, training_picture
from tests.regions.test_enumeration import one_layer


def test_a_partition_is_drawn_with_all_its_polygons_and_points() -> None:
    partition = one_layer([[1.0, 0], [0, 1]], [0.0, 0]).slice_partition(np.zeros(2), *np.eye(2))
    marked = np.array([[0.5, 0.25], [-0.5, 0.0]])
    figure = slice_picture(partition, points=marked, labels=["a", "b"], values=[0, 1, 2, 3])
    fills = [trace for trace in figure.data if trace.fill == "toself"]
    assert len(fills) == 4  # a colour of each value
    corners = {(x, y) for it in fills for x, y in zip(it.x, it.y, strict=True) if x is not None}
    assert corners == {(x, y) for x in (-1.0, 0.0, 1.0) for y in (-1.0, 0.0, 1.0)}
    points = figure.data[-1]
    np.testing.assert_allclose(np.stack([points.x, points.y], axis=1), marked)
    assert list(points.text) == ["a", "b"]
    by_signs = slice_picture(partition)  # 0, 1 and 2 signs
    assert len([trace for trace in by_signs.data if trace.fill == "toself"]) == 3
    with pytest.raises(ConfigurationError, match="4 polygons"):
        slice_picture(partition, values=[1])
    with pytest.raises(ConfigurationError, match="2 points"):
        slice_picture(partition, points=marked, labels=["a"])


def test_training_is_drawn_on_a_logarithmic_axis() -> None:
    rows = [{"step": s, "test_accuracy": s / 20, "test_complexity": 9 - s} for s in (0, 1, 10)]
    figure = training_picture(rows)
    assert [list(trace.x) for trace in figure.data] == [[1, 1, 10]] * 2
    assert [list(trace.y) for trace in figure.data] == [[0, 0.05, 0.5], [9, 8, -1]]
    assert figure.layout.xaxis.type == "log"
    with pytest.raises(ConfigurationError, match="no row"):
        training_picture([])
    with pytest.raises(ConfigurationError, match="test_complexity"):
        training_picture([*rows, {"step": 20, "test_accuracy": 1.0}])
