from __future__ import annotations

import inspect
import pickle
import subprocess
import sys
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import SkipTestWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks, get_tags
from sklearn.utils.validation import check_is_fitted

import splinellm
from splinellm import SplineExtractor, SplineFeatures
from splinellm.errors import ConfigurationError, PromptError, SchemaError, SplineLLMError
from splinellm.extraction import caching as cache_module
from splinellm.extraction.stores import MemoryStore
from splinellm.learn import register_backbone, release_backbones, shared_backbone
from tests.learn.counting import count_reads
from tests.tiny import tiny_backbone, tiny_model, tiny_tokenizer

TEXTS = ["The capital of France", "is Paris", "If it rains", "x"]


@pytest.fixture(autouse=True)
def tiny(llama, monkeypatch, tmp_path):
    """The model "tiny", and caches of this test alone."""
    monkeypatch.setattr(cache_module, "_PROCESS_STORE", MemoryStore())
    monkeypatch.setenv("SPLINELLM_CACHE", str(tmp_path / "cache"))
    register_backbone("tiny", llama)
    yield
    release_backbones()


@pytest.fixture
def reads(monkeypatch):
    return count_reads(monkeypatch)


@pytest.fixture
def model_folder(tmp_path):
    folder = tmp_path / "model"
    tiny_model().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def labelled(n):
    texts = [f"number {i} is {'odd' if i % 2 else 'even'}" for i in range(n)]
    return texts, np.arange(n) % 2


CONTAINERS = {
    "list": list(TEXTS),
    "tuple": tuple(TEXTS),
    "str array": np.array(TEXTS),
    "object array": np.array(TEXTS, dtype=object),
    "column array": np.array(TEXTS, dtype=object).reshape(-1, 1),
    "series": pd.Series(TEXTS, index=list("wxyz")),
    "object series": pd.Series(TEXTS, dtype=object),
    "index": pd.Index(TEXTS),
    "frame": pd.DataFrame({"text": TEXTS}),
}


@pytest.mark.parametrize("texts", CONTAINERS.values(), ids=CONTAINERS)
@pytest.mark.parametrize("cache", ["memory", "disk", None])
def test_values_are_the_extractors(llama, texts, cache):
    values = SplineFeatures("tiny", cache=cache).fit_transform(texts)
    assert values.dtype == np.float32
    np.testing.assert_allclose(
        values, SplineExtractor(llama).extract(TEXTS).values, rtol=2e-2, atol=1e-5
    )


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ("one text", "expected a column of texts, got str"),
        ({"text": TEXTS}, "got dict"),
        pytest.param(set(TEXTS), "got set", id="set"),
        pytest.param(iter(TEXTS), "expected a column of texts", id="iterator"),
        (None, "got NoneType"),
        (np.array("text"), "expected one column"),
        (np.array([TEXTS, TEXTS]), "2 x 4"),
        (pd.DataFrame({"a": TEXTS, "b": TEXTS}), "DataFrame of 2 columns"),
        (sparse.csr_array((3, 1)), "csr_array of 3 x 1"),
        (["fine", 3], "prompt 1: expected text, got int"),
        (["fine", None], "prompt 1: the text is missing"),
        (pd.Series(["fine", None]), "prompt 1: the text is missing"),
        (pd.Series(["fine", pd.NA], dtype="string"), "prompt 1: the text is missing"),
        (np.zeros(3), "prompt 0: expected text, got float"),
        ([[1, 2], [3]], "prompt 0: expected text, got list"),
        ([b"bytes"], "prompt 0: expected text, got bytes"),
        (["fine", ""], "prompt 1: the text is empty"),
        (["fine", "\ud800"], "prompt 1: .*surrogate"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("method", ["fit", "transform"])
def test_what_is_no_column_of_texts_is_refused(X, message, method):
    with pytest.raises(PromptError, match=message):
        getattr(SplineFeatures("tiny"), method)(X)


def test_no_texts_make_no_rows():
    assert SplineFeatures("tiny").fit_transform([]).shape == (0, 24)


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"model": 3}, ConfigurationError),
        ({"model": "tiny", "dtype": "bfloat16"}, ConfigurationError),
        ({"model": "tiny", "device": "cuda"}, ConfigurationError),
        ({"model": "tiny", "device": 0}, ConfigurationError),
        ({"model": "tiny", "device": 0.5}, ConfigurationError),
        ({"dtype": "int8"}, ConfigurationError),
        ({"model": "tiny", "cache": "ram"}, ConfigurationError),
        ({"model": "tiny", "layers": 3}, ConfigurationError),
        pytest.param({"model": "tiny", "layers": iter([1])}, ConfigurationError, id="iterator"),
        ({"model": "tiny", "layers": "9"}, SchemaError),
        ({"features": "sign_men"}, SchemaError),
        ({"model": "tiny", "features": None}, ConfigurationError),
        ({"model": "tiny", "max_tokens": 0}, ConfigurationError),
        ({"model": "tiny", "max_tokens": "9"}, ConfigurationError),
        ({"model": "tiny", "batch_tokens": 0.5}, ConfigurationError),
        ({"model": "tiny", "dimension_rule": "max"}, ConfigurationError),
        ({"model": "tiny", "dimension_threshold": 1.0}, ConfigurationError),
        ({"model": "tiny", "dimension_threshold": "0.1"}, ConfigurationError),
    ],
    ids=str,
)
def test_parameters_are_checked_by_fit_and_not_before(parameters, error):
    features = SplineFeatures(**parameters)
    with pytest.raises(error):
        features.fit(TEXTS)


def test_parameters_are_those_of_the_extractor():
    theirs = inspect.signature(SplineExtractor.from_pretrained).parameters
    ours = dict(inspect.signature(SplineFeatures).parameters)
    del ours["cache"]
    assert ours.keys() == theirs.keys() - {"device_map", "prefix_cache_bytes", "prefix_cache"}
    assert {n: p.default for n, p in ours.items()} == {n: theirs[n].default for n in ours}


def test_set_params_takes_effect():
    features = SplineFeatures("tiny").fit(TEXTS)
    whole = features.transform(TEXTS)
    features.set_params(layers=np.array([1]), features=["sign_mean", "sign_max"])
    assert features.get_feature_names_out().tolist() == ["layer_01.sign_mean", "layer_01.sign_max"]
    np.testing.assert_allclose(features.transform(TEXTS), whole[:, [8, 10]], atol=1e-5)
    assert features.get_params()["features"] == ["sign_mean", "sign_max"]


def test_numpy_parameters_of_a_search_are_taken():
    plain = SplineFeatures("tiny", layers=[0], max_tokens=3, dimension_threshold=0.25)
    numpy = SplineFeatures(
        np.str_("tiny"),
        device=torch.device("cpu"),
        layers=np.arange(1),
        features=np.array(["paper"]),
        max_tokens=np.int64(3),
        batch_tokens=np.int32(8),
        dimension_threshold=np.float64(0.25),
        allow_special_tokens=np.False_,
    )
    np.testing.assert_allclose(numpy.transform(TEXTS), plain.transform(TEXTS), atol=1e-5)
    assert numpy.fit(TEXTS).provenance_.to_json() == plain.fit(TEXTS).provenance_.to_json()


def test_text_is_no_yes_or_no():
    with pytest.raises(ConfigurationError, match="allow_special_tokens is of type str"):
        SplineFeatures("tiny", layers="0", allow_special_tokens="no").transform(TEXTS)


@pytest.mark.parametrize("texts", [CONTAINERS["series"], CONTAINERS["series"].to_frame("t")])
def test_set_output_names_columns_and_keeps_the_index(texts):
    frame = SplineFeatures("tiny", layers="1").set_output(transform="pandas").fit_transform(texts)
    assert frame.index.tolist() == list("wxyz")
    assert frame.columns[0] == "layer_01.sign_mean"
    assert set(frame.dtypes) == {np.dtype(np.float32)}


def test_grid_search_reads_each_text_once(reads):
    texts, labels = labelled(200)
    pipeline = make_pipeline(
        SplineFeatures("tiny", layers="1", batch_tokens=4096),
        StandardScaler(),
        LogisticRegression(),
    )
    search = GridSearchCV(pipeline, {"logisticregression__C": [0.1, 1, 10]}, cv=3)
    search.fit(texts, labels)
    assert search.best_score_ > 0.6
    assert len(reads) == 200


def test_grid_search_over_the_features_themselves(reads):
    texts, labels = labelled(24)
    pipeline = make_pipeline(SplineFeatures("tiny"), StandardScaler(), LogisticRegression())
    grid = {
        "splinefeatures__layers": ["0", "1-2"],
        "splinefeatures__features": ["spline", "blocks"],
    }
    search = GridSearchCV(pipeline, grid, cv=3, error_score="raise").fit(texts, labels)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert len(reads) == 4 * 24


def test_column_transformer_and_union():
    frame = pd.DataFrame({"text": TEXTS, "length": [4.0, 2, 3, 1], "title": TEXTS[::-1]})
    spline = SplineFeatures("tiny", layers="0", features="sign_mean")
    columns = ColumnTransformer(
        [
            ("text", spline, "text"),
            ("title", spline, ["title"]),
            ("number", "passthrough", ["length"]),
        ]
    ).set_output(transform="pandas")
    table = columns.fit_transform(frame)
    assert table.columns.tolist() == [
        "text__layer_00.sign_mean",
        "title__layer_00.sign_mean",
        "number__length",
    ]
    np.testing.assert_allclose(table.iloc[:, 0], table.iloc[::-1, 1], atol=1e-6)
    union = FeatureUnion([("a", spline), ("b", clone(spline).set_params(layers="1"))])
    assert union.fit_transform(TEXTS).shape == (4, 2)
    assert union.get_feature_names_out().tolist() == [
        "a__layer_00.sign_mean",
        "b__layer_01.sign_mean",
    ]


def test_clones_share_one_model(model_folder):
    features = SplineFeatures(str(model_folder)).fit(TEXTS)
    backbone = shared_backbone(str(model_folder))
    twin = clone(features)
    assert twin.get_params() == features.get_params()
    assert not hasattr(twin, "provenance_")
    twin.fit(TEXTS)
    assert shared_backbone(str(model_folder)) is backbone
    release_backbones(str(model_folder))
    assert shared_backbone(str(model_folder)) is not backbone


def test_pickles_are_small_and_work_in_a_new_process(model_folder, tmp_path):
    pipeline = make_pipeline(
        SplineFeatures(str(model_folder), layers=[0, 2]), StandardScaler(), LogisticRegression()
    )
    texts, labels = labelled(12)
    expected = pipeline.fit(texts, labels).predict_proba(texts)
    assert len(pickle.dumps(pipeline)) < 20_000
    joblib.dump(pipeline, tmp_path / "pipeline.joblib")
    code = f"""
import sys, joblib, numpy as np
pipeline = joblib.load({str(tmp_path / "pipeline.joblib")!r})
assert pipeline[0].get_feature_names_out()[8] == "layer_02.sign_mean"
assert "torch" not in sys.modules, "names and pickles need no torch"
np.save({str(tmp_path / "out.npy")!r}, pipeline.predict_proba({texts!r}))
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, atol=1e-3)


def test_worker_processes_load_the_model_by_name(model_folder, reads):
    texts, labels = labelled(24)
    pipeline = make_pipeline(
        SplineFeatures(str(model_folder), layers="1", cache="disk"),
        StandardScaler(),
        LogisticRegression(),
    )
    with joblib.parallel_config("loky", n_jobs=2):
        scores = cross_val_score(pipeline, texts, labels, cv=2, n_jobs=2, error_score="raise")
    alone = cross_val_score(pipeline, texts, labels, cv=2)
    assert not reads  # the workers wrote what they read
    np.testing.assert_array_equal(scores, alone)


def test_threads_share_one_model():
    texts, labels = labelled(24)
    pipeline = make_pipeline(SplineFeatures("tiny", layers="1"), LogisticRegression(max_iter=1000))
    with joblib.parallel_config("threading", n_jobs=4):
        scores = cross_val_score(pipeline, texts, labels, cv=4, error_score="raise")
    assert np.isfinite(scores).all()


def test_another_model_under_the_same_name_is_refused_once_fitted():
    features = SplineFeatures("tiny").fit(TEXTS)
    register_backbone("tiny", tiny_backbone(seed=1))
    with pytest.raises(ConfigurationError, match="weights_sha256"):
        features.transform(TEXTS)
    features.fit(TEXTS).transform(TEXTS)


def test_model_is_loaded_with_the_first_text_and_not_before(monkeypatch):
    def load(*args, **kwargs):
        raise AssertionError("loaded")

    monkeypatch.setattr("splinellm.backbone.loading.load_backbone", load)
    features = clone(SplineFeatures())
    repr(features), features._repr_html_(), pickle.loads(pickle.dumps(features))
    features.set_params(layers="0")
    with pytest.raises(SplineLLMError):
        features.fit([""])
    with pytest.raises(AssertionError, match="loaded"):
        features.fit(["text"])


def test_tags():
    tags = get_tags(SplineFeatures())
    assert tags.input_tags.string
    assert not tags.input_tags.two_d_array
    assert not tags.requires_fit
    check_is_fitted(SplineFeatures())
    with pytest.warns(SkipTestWarning, match="Can't test estimator"):  # as for CountVectorizer
        estimator_checks.check_estimator(SplineFeatures("tiny"))


@pytest.mark.parametrize(
    "check",
    [  # those of scikit-learn's checks that feed no numbers
        "check_estimator_cloneable",
        "check_estimator_tags_renamed",
        "check_valid_tag_types",
        "check_estimator_repr",
        "check_no_attributes_set_in_init",
        "check_do_not_raise_errors_in_init_or_set_params",
        "check_mixin_order",
        "check_parameters_default_constructible",
        "check_get_params_invariance",
        "check_set_params",
    ],
)
def test_scikit_learns_own_check(check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkipTestWarning)
        getattr(estimator_checks, check)("SplineFeatures", SplineFeatures("tiny"))


def test_lazy_export():
    assert "SplineFeatures" in splinellm.__all__
    assert "SplineFeatures" in dir(splinellm)
    code = (
        "import sys, splinellm, splinellm.learn; assert not {'torch', 'sklearn'} & {*sys.modules};"
        "splinellm.SplineFeatures().get_params(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
