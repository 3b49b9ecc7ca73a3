"""Pictures of tables and of classifiers show the numbers that they are given."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from splinellm import FeatureTable, plots
from splinellm.errors import ConfigurationError, TableFormatError
from splinellm.learn.comparing import compare, effect_sizes
from splinellm.learn.evaluation import Score
from splinellm.plots.style import MOST_LABELS
from tests.fakes import FakeExtractor
from tests.tables import make

HOSTILE = "<script>alert(1)</script>\x00\u202ex<b>"


def table_of(n_rows: int) -> FeatureTable:
    table = make(n_rows)
    values = np.random.default_rng(0).normal(size=table.values.shape)
    return replace(table, values=values.astype(np.float32))


def tokens_of(*texts: str, granularity: Any = "token") -> FeatureTable:
    return FakeExtractor.from_pretrained().extract(list(texts), granularity=granularity)


def traces(figure: Any, name: str) -> list[Any]:
    return [trace for trace in figure.data if trace.name == name]


def test_pictures_of_tables_need_no_torch() -> None:
    program = "import sys, splinellm.plots; print({'torch', 'transformers'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


@pytest.mark.parametrize("architecture", ["llama", "bert"])
def test_pictures_that_ask_what_a_model_is_need_no_torch(architecture: str, tmp_path: Path) -> None:
    table = tokens_of("a text", "b")
    source = replace(table.provenance, architecture=architecture)
    replace(table, provenance=source).to_parquet(tmp_path / "tokens.parquet")
    program = (
        "import sys, splinellm.plots as plots\n"
        "from splinellm.io.feature_files import read_features\n"
        "figure = plots.dimension_picture(read_features(sys.argv[1]))\n"
        "print(figure.layout.xaxis.title.text, {'torch', 'transformers'} & {*sys.modules})"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "tokens.parquet")]
    done = subprocess.run(command, capture_output=True, text=True)
    place = {"llama": "context length (tokens)", "bert": "position of the token"}[architecture]
    assert done.stdout.strip() == f"{place} set()", done.stderr


def test_layers_show_the_median_of_each_label() -> None:
    table = table_of(12)
    labels = ["a"] * 5 + ["b"] * 7
    feature = table.schema.features[1]
    figure = plots.layers_picture(table, labels, features=[feature])
    (line,) = traces(figure, "b")
    np.testing.assert_allclose(line.y, np.median(table.array[5:, :, 1], axis=0), rtol=1e-6)
    assert list(line.x) == list(table.schema.layers)
    with pytest.raises(ConfigurationError, match="3 labels do not fit 12 rows"):
        plots.layers_picture(table, labels[:3])
    with pytest.raises(ConfigurationError, match="no feature 'x'"):
        plots.layers_picture(table, features=["x"])
    with pytest.raises(ConfigurationError, match="no rows"):
        plots.layers_picture(table[:0])


def test_labels_that_are_left_out_are_told() -> None:
    table = table_of(20)
    figure = plots.layers_picture(table, [str(i) for i in range(20)])
    assert f"{MOST_LABELS} most frequent of 20 labels" in figure.layout.title.text


def test_effects_are_those_between_the_labels() -> None:
    table = table_of(12)
    labels = ["a"] * 5 + ["b"] * 7
    expected = effect_sizes(table.values[:5], table.values[5:]).size.reshape(table.schema.shape).T
    figure = plots.effects_picture(table, labels)
    np.testing.assert_allclose(figure.data[0].z, expected)
    assert list(figure.data[0].y) == list(table.schema.features)
    with pytest.raises(ConfigurationError, match=r"there are 3 \(.*--between A,B.*: a, b, c\)"):
        plots.effects_picture(table, [*labels[:-1], "c"])
    found = compare(table, table)
    assert np.allclose(plots.comparison_picture(found).data[0].z, 0)


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_a_map_has_a_point_for_every_row(method: Any) -> None:
    table = table_of(12)
    labels = ["a"] * 5 + ["b"] * 7
    figure = plots.map_picture(table, labels, method=method, texts=[HOSTILE] * 12)
    assert [len(trace.x) for trace in figure.data] == [5, 7]
    assert all("<script>" not in text for trace in figure.data for text in trace.hovertext)
    numbers = plots.map_picture(table, list(range(12)), method=method)
    assert list(numbers.data[0].marker.color) == list(range(12))
    with pytest.raises(ConfigurationError, match="at least 3 rows"):
        plots.map_picture(table[:2])
    with pytest.raises(ConfigurationError, match="unknown method"):
        plots.map_picture(table, method="x")  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_a_map_of_equal_rows_is_one_point(method: str) -> None:
    """T-SNE divides by the spread of its first component, and then reads where no memory is."""
    program = (
        "import sys, splinellm.plots as plots\n"
        "from tests.plots.test_tables import table_of\n"
        "import numpy as np\n"
        "figure = plots.map_picture(table_of(9)[np.zeros(9, int)], method=sys.argv[1])\n"
        "print({*figure.data[0].x, *figure.data[0].y}, figure.layout.title.text)"
    )
    command = [sys.executable, "-W", "error", "-c", program, method]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == "{0.0} 9 prompts; all with the same features\n", done.stderr


def test_texts_without_spaces_are_wrapped() -> None:
    figure = plots.map_picture(table_of(3), texts=["&" * 100, "x" * 500, "short"])
    lines = [text.split("<br>") for text in figure.data[0].hovertext]
    assert lines[0] == ["&amp;" * 60, "&amp;" * 40]
    assert max(map(len, lines[1])) == 60
    assert lines[2] == ["short"]


@pytest.mark.skipif(importlib.util.find_spec("umap") is not None, reason="it is installed")
def test_umap_says_what_to_install() -> None:
    with pytest.raises(ConfigurationError, match="not installed") as caught:
        plots.map_picture(table_of(5), method="umap")
    assert "umap-learn" in str(caught.value.hint)


def test_tokens_are_written_with_their_numbers() -> None:
    table = tokens_of("one two three", "four")
    figure = plots.tokens_picture(table, row=0)
    written = [trace for trace in figure.data if trace.mode == "text"]
    found = {int(i): value for trace in written for value, i in trace.customdata}
    expected = table.array[table.tokens.row == 0, :, 0].mean(axis=1)  # type: ignore[union-attr]
    np.testing.assert_allclose([found[i] for i in sorted(found)], expected, rtol=1e-6)
    scored = plots.tokens_picture(table, row=1, scores=[0.5] * (len(table) - len(expected)))
    assert scored.data
    with pytest.raises(ConfigurationError, match="no tokens of a prompt 7"):
        plots.tokens_picture(table, row=7)
    with pytest.raises(TableFormatError, match="no tokens"):
        plots.tokens_picture(table_of(3))


def test_a_first_token_that_is_far_from_all_does_not_take_the_scale(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("splinellm.token_index._MANY", 5)
    table = tokens_of("a " * 60)
    assert len(table) >= 5
    scores = [1000.0, *np.linspace(0, 1, len(table) - 1)]
    figure = plots.tokens_picture(table, scores=scores)
    (bar,) = [trace.marker for trace in figure.data if trace.marker.showscale]
    assert bar.cmax <= 1
    assert "extremes beyond the scale" in figure.layout.title.text
    written = [trace for trace in figure.data if trace.mode == "text"]
    assert 1000.0 in [value for trace in written for value, _ in trace.customdata]


def test_dimension_is_the_mean_over_prompts() -> None:
    table = tokens_of("one two three", "four five")
    figure = plots.dimension_picture(table, layers=[table.schema.layers[0]])
    (line,) = traces(figure, f"layer {table.schema.layers[0]}")
    at = table.schema.features.index("intrinsic_dimension")
    assert table.tokens is not None
    first = table.array[table.tokens.position == 0, 0, at]
    assert line.y[0] == pytest.approx(first.mean())
    assert list(line.x) == list(range(1, int(table.tokens.position.max()) + 2))


def test_tokens_of_an_encoder_have_a_position_and_no_context() -> None:
    table = tokens_of("one two three")
    encoder = replace(table, provenance=replace(table.provenance, architecture="bert"))
    axes = [plots.dimension_picture(one).layout.xaxis.title.text for one in (table, encoder)]
    assert axes == ["context length (tokens)", "position of the token"]


@pytest.mark.parametrize("n_layers", [1, 2])
def test_curves_that_are_far_apart_have_a_scale_of_powers(n_layers: int) -> None:
    table = tokens_of("one two three", granularity="prefix")
    at = table.schema.features.index("intrinsic_dimension")
    table.array[:, 0, at] = 900.0
    table.array[:, 1, at] = 9.0
    layers = list(table.schema.layers[:n_layers])
    dimension = plots.dimension_picture(table, layers=layers)
    prefix = plots.prefix_picture(table, features=["intrinsic_dimension"], layers=layers)
    for figure in (dimension, prefix):
        # One curve alone has nothing to be flat beside.
        assert (figure.layout.yaxis.type == "log") == (n_layers == 2)
    table.array[:, 1, at] = 0.0  # which has no logarithm
    assert plots.dimension_picture(table, layers=layers).layout.yaxis.type != "log"


def test_axes_that_count_have_no_halves() -> None:
    table = table_of(4)
    assert plots.layers_picture(table).layout.xaxis.dtick == 1
    scores = [Score("layer", str(layer), "a", (0.6, 0.7)) for layer in range(30)]
    assert plots.areas_picture(scores[:3]).layout.xaxis.dtick == 1
    assert plots.areas_picture(scores).layout.xaxis.dtick is None  # no room for each
    tokens = tokens_of("one two", granularity="prefix")
    assert plots.dimension_picture(tokens).layout.xaxis.dtick == 1
    assert plots.prefix_picture(tokens).layout.xaxis.dtick == 1


def test_a_single_layer_or_token_has_no_neighbours() -> None:
    table = table_of(8)
    layer = table.schema.layers[-1]
    table = table.select(layers=[layer])
    figure = plots.layers_picture(table)
    assert list(figure.layout.xaxis.tickvals) == [layer]
    (line,) = [trace for trace in figure.data if trace.mode == "markers"][:1]
    low, middle, high = np.quantile(table.array[:, 0, 0], [0.25, 0.5, 0.75])
    np.testing.assert_allclose(line.error_y.array, [high - middle], rtol=1e-5)
    np.testing.assert_allclose(line.error_y.arrayminus, [middle - low], rtol=1e-5)
    # A distance of 1e-5 is nothing between -1 and 1, which are plotly's own limits around a point.
    assert {axis.rangemode for axis in plots.layers_picture(table[:1]).select_yaxes()} == {"tozero"}
    assert {axis.rangemode for axis in figure.select_yaxes()} == {"normal"}
    one = tokens_of("a", granularity="prefix")
    assert list(plots.dimension_picture(one).layout.xaxis.tickvals) == [1]
    assert "over 1 prompt" in plots.dimension_picture(one).layout.title.text
    assert "prompts" not in plots.dimension_picture(one).layout.title.text


def test_a_scale_of_one_number_has_no_others() -> None:
    tokens = tokens_of("a b")
    bar = plots.tokens_picture(tokens, scores=np.full(len(tokens), 0.75)).data[-1].marker.colorbar
    assert (list(bar.tickvals), list(bar.ticktext)) == ([0.75], ["0.75"])


def test_no_letter_that_could_be_a_unit_stands_beside_a_number() -> None:
    table, small = tokens_of("a b"), np.full((1, 2), 2e-4)
    for bar in (
        plots.tokens_picture(table).data[-1].marker.colorbar,
        plots.coefficients_picture(small, [0], ["a", "b"]).data[0].colorbar,
        plots.map_picture(table_of(9), [*range(9)]).data[0].marker.colorbar,
    ):
        assert bar.exponentformat == "power"


def test_no_button_sends_a_figure_away() -> None:
    assert "sendChartToCloud" in plots.layers_picture(table_of(4)).layout.modebar.remove


def test_prefixes_are_drawn_as_they_are() -> None:
    table = tokens_of("one two three", granularity="prefix")
    figure = plots.prefix_picture(table, features=["sign_mean"], layers=[table.schema.layers[0]])
    np.testing.assert_allclose(
        figure.data[0].y, table.array[:, 0, table.schema.features.index("sign_mean")], rtol=1e-6
    )
    with pytest.raises(TableFormatError, match="no prefixes"):
        plots.prefix_picture(tokens_of("one"))
    with pytest.raises(ConfigurationError, match="not nix"):
        plots.prefix_picture(table, features=["nix"])


TRUTH = [0, 0, 1, 1, 0, 1]
SCORES = [0.1, 0.4, 0.35, 0.8, 0.2, 0.9]


def test_thresholds_stand_where_they_belong() -> None:
    # From 0.38 on: two of three with the class, one of three without.
    (mark,) = traces(plots.roc_picture(TRUTH, SCORES, thresholds={"t": 0.38}), "t ≥ 0.38")
    assert (mark.x[0], mark.y[0]) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    figure = plots.precision_recall_picture(TRUTH, SCORES, thresholds={"t": 0.38})
    (mark,) = traces(figure, "t ≥ 0.38")
    assert (mark.x[0], mark.y[0]) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    (line,) = traces(plots.reliability_picture(TRUTH, SCORES, n_bins=2), "classifier (95 %)")
    assert list(line.y) == pytest.approx([1 / 3, 2 / 3])
    for truth, scores in (([1, 1], [0.1, 0.2]), ([0, 1], [0.1]), ([0, 1], [0.1, np.nan])):
        with pytest.raises(ConfigurationError):
            plots.roc_picture(truth, scores)


def test_coefficients_and_learning_curves() -> None:
    grid = np.arange(6.0).reshape(2, 3)
    figure = plots.coefficients_picture(grid.ravel(), [0, 3], ["a", "b", "c"], theme="dark")
    np.testing.assert_array_equal(figure.data[0].z, grid)
    with pytest.raises(ConfigurationError, match="6 coefficients"):
        plots.coefficients_picture(grid, [0], ["a"])
    curve = plots.learning_picture([10, 20], grid[:, :2], grid[:, 1:])
    (line,) = traces(curve, "held-out rows")
    assert list(line.y) == [1.5, 4.5]
    with pytest.raises(ConfigurationError, match="3 sizes"):
        plots.learning_picture([1, 2, 3], grid, grid)
    with pytest.raises(ConfigurationError, match="unknown theme"):
        plots.learning_picture([10, 20], grid, grid, theme="x")  # type: ignore[arg-type]


def test_hostile_labels_are_text() -> None:
    table = table_of(6)
    figure = plots.layers_picture(table, [HOSTILE] * 6, title=HOSTILE)
    page = figure.to_html(include_plotlyjs=False)
    assert "<script>alert" not in page
    assert "\x00" not in page
    assert "\u202e" not in page
    assert "&lt;script&gt;" in figure.layout.title.text


def test_long_names_leave_the_room_to_the_picture() -> None:
    table = table_of(6)
    long, short = ["x" * 1_100, "b"] * 3, ["a", "b"] * 3
    for picture in (plots.layers_picture, plots.map_picture):
        assert picture(table, long).layout.legend.orientation == "h"  # below
        assert picture(table, short).layout.legend.orientation is None  # beside
    for label in ("layer", "prefix"):
        scores = [Score(label, "0", "x" * 60, (0.5,))]
        assert plots.areas_picture(scores, section=label).layout.legend.orientation == "h"
    title = plots.effects_picture(table, long, title="wide words " * 100).layout.title.text
    assert len(title.split("<br>")) == 2
    assert max(map(len, title.split("<br>"))) <= 90
    pair = plots.effects_picture(table, ["x" * 1_100, "<b>"] * 3).layout.title.text
    assert "how far the second is above the first" in pair.replace("<br>", " ")
