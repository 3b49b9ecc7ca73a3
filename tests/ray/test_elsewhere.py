"""The same callable, unchanged, in what others use to go through many rows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from splinellm import SplineExtractor
from splinellm.learn.artifact import load_classifier
from splinellm.ray import PredictBatch, SplineBatch
from tests.ray.rows import texts_of

TEXTS = [*texts_of(40), ""]
EXPECTED_ERRORS = [False] * 40 + [True]


def require_features(columns: dict[str, list[Any]], extractor: SplineExtractor) -> None:
    """Compare rows that carry their number with the extractor's."""
    order = np.argsort(columns["id"])
    table = extractor.extract(TEXTS[:-1])
    found = np.array([columns[name] for name in table.names], np.float32).T[order]
    # Batches are others than the extractor's own, and distances move by that.
    np.testing.assert_allclose(found[:-1], table.values, rtol=2e-2, atol=2e-6)
    assert np.isnan(found[-1]).all()
    assert [columns["n_tokens"][i] for i in order] == [*table.n_tokens.tolist(), 0]
    assert [bool(columns["error"][i]) for i in order] == EXPECTED_ERRORS


def require_verdicts(columns: dict[str, list[Any]], classifier: str) -> None:
    order = np.argsort(columns["id"])
    expected = load_classifier(classifier).predict_texts(TEXTS[:-1])
    assert [columns["predicted"][i] for i in order][:-1] == expected.predicted
    assert not isinstance(columns["predicted"][order[-1]], str)
    odd = np.array([columns["probability.odd"][i] for i in order], float)
    np.testing.assert_allclose(odd[:-1], expected.probabilities[:, 1], atol=1e-4)


def test_ray_data(tmp_path: Path, model: str, classifier: str, extractor: SplineExtractor) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    pq.write_table(pa.table({"id": range(41), "text": TEXTS}), tmp_path / "texts.parquet")
    # In a process of its own, which leaves nothing behind in this one.
    run = [sys.executable, "-m", "tests.ray.map_batches", str(tmp_path), model, classifier]
    subprocess.run(run, check=True, timeout=600)
    for batch_format in ("pyarrow", "numpy"):
        found = pq.read_table(tmp_path / f"{batch_format}.parquet").to_pydict()
        columns = {n: [np.nan if v is None else v for v in values] for n, values in found.items()}
        require_features(columns, extractor)
    require_verdicts(pq.read_table(tmp_path / "pandas.parquet").to_pydict(), classifier)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("kind", [None, "arrow", "pandas", "numpy"])
def test_datasets(
    kind: str | None, model: str, classifier: str, extractor: SplineExtractor
) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    rows = datasets.Dataset.from_dict({"id": list(range(41)), "text": TEXTS}).with_format(kind)
    options = {"batched": True, "batch_size": 16}
    found = rows.map(SplineBatch(model), **options).with_format(None)
    require_features(found.to_dict(), extractor)
    if kind == "arrow":
        assert found.features["layer_00.sign_mean"].dtype == "float32"
    found = rows.map(PredictBatch(classifier), **options).with_format(None)
    require_verdicts(found.to_dict(), classifier)


@pytest.mark.filterwarnings("default")
def test_datasets_streamed(model: str, extractor: SplineExtractor) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    rows = datasets.Dataset.from_dict({"id": list(range(41)), "text": TEXTS}).to_iterable_dataset()
    found = list(rows.map(SplineBatch(model), batched=True, batch_size=16))
    require_features(pd.DataFrame(found).to_dict("list"), extractor)


@pytest.mark.filterwarnings("default")
def test_daft(model: str, classifier: str, extractor: SplineExtractor) -> None:
    daft = pytest.importorskip("daft", reason="daft is not installed")
    rows = daft.from_pydict({"id": list(range(41)), "text": TEXTS})
    for annotate in (SplineBatch(model), PredictBatch(classifier)):
        kind = daft.DataType.from_arrow_type(pa.struct(annotate.schema))
        of_text = daft.func.batch(return_dtype=kind, unnest=True, batch_size=16)(annotate)
        found = rows.select(rows["id"], of_text(rows["text"])).to_pydict()
        columns = {n: [np.nan if v is None else v for v in values] for n, values in found.items()}
        if isinstance(annotate, SplineBatch):
            require_features(columns, extractor)
        else:
            require_verdicts(columns, classifier)
