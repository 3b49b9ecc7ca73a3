from __future__ import annotations

import json
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from splinellm import SplineExtractor
from splinellm.errors import (
    ChatTemplateError,
    ClassifierNotFoundError,
    ConfigurationError,
    RowError,
    SchemaError,
    SplineLLMError,
)
from splinellm.learn.artifact import load_classifier, save_classifier
from splinellm.learn.labels import Labels
from splinellm.learn.training import train
from splinellm.ray import PredictBatch, SplineBatch, batches
from tests.ray.rows import texts_of

TEXTS = texts_of(12)
BAD: list[Any] = [TEXTS[0], "", None, TEXTS[1], 7]
KINDS = ["table", "record batch", "frame", "lists", "arrays"]


def batch_of(kind: str, **columns: Any) -> Any:
    if kind == "table":
        return pa.table(columns)
    if kind == "record batch":
        return pa.RecordBatch.from_pydict(columns)
    if kind == "frame":
        return pd.DataFrame(columns, index=range(100, 100 + len(columns["text"])))
    if kind == "arrays":
        return {name: np.array(values, object) for name, values in columns.items()}
    return columns


def columns_of(batch: Any) -> dict[str, list[Any]]:
    """A batch of any kind as lists, what is missing as None."""
    if isinstance(batch, pa.Table | pa.RecordBatch):
        found: dict[str, list[Any]] = batch.to_pydict()
        return found
    lists = {name: list(batch[name]) for name in batch}
    return {n: [None if v is None or v != v else v for v in values] for n, values in lists.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_the_extractors_and_the_kind_stays(
    kind: str, model: str, extractor: SplineExtractor
) -> None:
    given = batch_of(kind, id=list(range(12)), text=TEXTS)
    found = SplineBatch(model)(given)
    assert type(found) is type(given)
    expected = extractor.extract(TEXTS)
    columns = columns_of(found)
    assert list(columns) == [
        "id", "text", "n_tokens", "truncated", *expected.names, "error"
    ]  # fmt: skip
    assert columns["id"] == list(range(12))
    assert columns["n_tokens"] == expected.n_tokens.tolist()
    values = np.array([columns[name] for name in expected.names], np.float32).T
    assert np.array_equal(values, expected.values)
    assert set(columns[batches.ERROR]) == {""}
    assert list(columns_of(given)) == ["id", "text"], "what was given is left alone"
    if kind == "frame":
        assert list(found.index) == list(given.index)


@pytest.mark.parametrize("layers", [1, np.array(1), iter([1])])
def test_one_layer(model: str, layers: Any) -> None:
    batch = SplineBatch(model, layers=layers, features="sign_mean")
    for _ in range(2):
        found = [name for name in batch({"text": TEXTS[:1]}) if name.startswith("layer")]
        assert found == ["layer_01.sign_mean"]


@pytest.mark.parametrize("kind", KINDS)
def test_verdicts_are_the_classifiers(kind: str, classifier: str) -> None:
    found = columns_of(PredictBatch(classifier)(batch_of(kind, text=TEXTS)))
    expected = load_classifier(classifier).predict_texts(TEXTS)
    assert found["predicted"] == expected.predicted
    of_classes = [found[f"probability.{name}"] for name in expected.classes]
    assert np.array_equal(np.array(of_classes).T, expected.probabilities)


@pytest.mark.parametrize("made", [SplineBatch, PredictBatch])
@pytest.mark.parametrize("kind", ["frame", "lists", "arrays"])
def test_bad_rows_stay_with_their_reason_and_cost_no_good_one(
    kind: str, made: Any, model: str, classifier: str
) -> None:
    annotate = made(model if made is SplineBatch else classifier)
    found = columns_of(annotate(batch_of(kind, text=BAD)))
    alone = columns_of(annotate({"text": [BAD[0], BAD[3]]}))
    for name, values in found.items():
        if name != "text":
            assert [values[0], values[3]] == alone[name], name
    assert [bool(reason) for reason in found["error"]] == [False, True, True, False, True]
    assert "empty" in found["error"][1]
    assert "missing" in found["error"][2]
    number = "layer_00.sign_mean" if made is SplineBatch else "probability.odd"
    assert [value is None for value in found[number]] == [False, True, True, False, True]
    assert [found["n_tokens"][place] for place in (1, 2, 4)] == [0, 0, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_types_are_those_of_a_batch_without_bad_rows(kind: str, model: str) -> None:
    def types(batch: Any) -> dict[str, Any]:
        if isinstance(batch, pa.Table | pa.RecordBatch):
            return dict(zip(batch.schema.names, batch.schema.types, strict=True))
        if isinstance(batch, dict):
            return {n: getattr(v, "dtype", type(v[0])) for n, v in batch.items()}
        return dict(batch.dtypes)

    annotate = SplineBatch(model, features="sign_mean")
    good, bad = (types(annotate(batch_of(kind, text=t))) for t in ([TEXTS[0]], [""]))
    assert good == bad


def test_an_empty_batch_has_the_columns_too(model: str, classifier: str) -> None:
    empty = pa.table({"text": pa.array([], pa.string())})
    for annotate in (SplineBatch(model), PredictBatch(classifier)):
        found = annotate(empty)
        assert found.num_rows == 0
        assert found.schema.names[1:] == annotate.schema.names


def test_raising_names_the_row(model: str) -> None:
    annotate = SplineBatch(model, on_error="raise")
    with pytest.raises(RowError, match=r"row 2: column 'text': the text is empty \(on_error="):
        annotate({"text": BAD})
    assert "error" not in annotate({"text": TEXTS})


def test_annotate_tells_good_and_bad_rows_apart(model: str, extractor: SplineExtractor) -> None:
    added, problems = SplineBatch(model).annotate(pa.table({"text": ["", *TEXTS]}))
    assert added.num_rows == len(TEXTS)
    assert added.select(list(extractor.schema.names)).equals(
        extractor.extract(TEXTS).to_arrow().select(list(extractor.schema.names))
    )
    assert {place: problem.code for place, problem in problems.items()} == {0: "invalid_prompt"}


@pytest.mark.parametrize("kind", ["table", "lists", "frame"])
def test_conversations(kind: str, model: str) -> None:
    told = [{"role": "user", "content": TEXTS[0]}]
    template = "{% for m in messages %}<s>{{ m.content }}{% endfor %}"
    annotate = SplineBatch(model, messages_column="text", count="user", chat_template=template)
    cells = [told, json.dumps(told)] if kind == "lists" else [told, told]
    found = columns_of(annotate(batch_of(kind, text=cells)))
    extractor = SplineExtractor.from_pretrained(model, count="user", chat_template=template)
    expected = extractor.extract([told])
    for place, name in enumerate(expected.names):
        assert found[name] == [expected.values[0, place]] * 2


@pytest.mark.parametrize("kind", ["table", "lists", "arrays"])
def test_lists_by_layer(kind: str, model: str, extractor: SplineExtractor) -> None:
    found = SplineBatch(model, layout="list")(batch_of(kind, text=[*TEXTS, ""]))
    expected = extractor.extract(TEXTS).array
    place = extractor.schema.features.index("sign_mean")
    rows = columns_of(found)["sign_mean"] if kind != "arrays" else list(found["sign_mean"])
    assert np.array_equal(np.array(rows[:-1], np.float32), expected[:, :, place])


def test_a_column_gives_a_column_of_records(model: str) -> None:
    annotate = SplineBatch(model, features="sign_mean")
    whole = annotate(pa.table({"text": BAD[:4]})).drop_columns("text").to_pylist()
    assert annotate(pa.array(BAD[:4])).to_pylist() == whole
    assert annotate(pa.chunked_array([BAD[:4]])).to_pylist() == whole
    assert annotate(pd.Series(BAD[:4], index=[4, 5, 6, 7])).to_dict() == dict(
        zip([4, 5, 6, 7], whole, strict=True)
    )


def test_pickles_carry_settings_and_models_are_loaded_once(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = []
    load = SplineExtractor.from_pretrained

    def counted(*told: Any, **settings: Any) -> SplineExtractor:
        loads.append(settings)
        return load(*told, **settings)

    monkeypatch.setattr(SplineExtractor, "from_pretrained", counted)
    monkeypatch.setattr(batches, "_loaded", {})
    annotate = SplineBatch(model)
    sent = pickle.dumps(annotate)
    assert len(sent) < 1000
    assert not loads
    annotate({"text": TEXTS})
    assert len(pickle.dumps(annotate)) == len(sent)
    pickle.loads(sent)({"text": TEXTS})
    SplineBatch(model, text_column="other")({"other": TEXTS})
    assert len(loads) == 1
    SplineBatch(model, layers="0")({"text": TEXTS})
    assert len(loads) == 2


def test_making_one_imports_no_torch() -> None:
    code = (
        "import sys; from splinellm.ray import SplineBatch; SplineBatch(layers='0-2');"
        "assert not {'torch', 'ray', 'transformers', 'pandas', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_mistakes_are_told_before_any_model_is_loaded(model: str, classifier: str) -> None:
    with pytest.raises(SchemaError, match="unknown feature 'sign_maen'"):
        SplineBatch(model, features="sign_maen")
    with pytest.raises(SchemaError):
        SplineBatch(model, layers="a-b")
    with pytest.raises(SchemaError, match="layers is of type float"):
        SplineBatch(model, layers=np.array(0.5))  # type: ignore[arg-type]
    with pytest.raises(SchemaError, match="features is of type int"):
        SplineBatch(model, features=5)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="on_error is 'skip'"):
        SplineBatch(model, on_error="skip")  # type: ignore[arg-type]
    with pytest.raises(ClassifierNotFoundError):
        PredictBatch("no/such/folder")
    with pytest.raises(ConfigurationError, match="'parity' is none"):
        PredictBatch(classifier, spans=True)


def test_batches_that_cannot_be_read_are_refused(model: str) -> None:
    annotate = SplineBatch(model, features="sign_mean")
    with pytest.raises(ConfigurationError, match="no column 'text', only: 'body'"):
        annotate({"body": TEXTS})
    with pytest.raises(ConfigurationError, match="already has a column 'n_tokens'"):
        annotate({"text": TEXTS, "n_tokens": [0] * len(TEXTS)})
    with pytest.raises(ConfigurationError, match="a batch is no list"):
        annotate(TEXTS)


@pytest.mark.parametrize(
    "error",
    [
        RowError("is bad", source="a.csv", row=3, reason_code="x"),
        ConfigurationError("impossible", hint="do not"),
    ],
)
def test_errors_reach_other_processes_as_they_are(error: SplineLLMError) -> None:
    found = pickle.loads(pickle.dumps(error))
    assert type(found) is type(error)
    assert str(found) == str(error)
    assert vars(found) == vars(error)


CHATS = [[{"role": "system", "content": "so"}, {"role": "user", "content": text}] for text in TEXTS]
TEMPLATE = "{% for m in messages %}<s>{{ m.content }}{% endfor %}"


@pytest.fixture(scope="session")
def of_answers(model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A classifier of what the last message says, in a template that its model does not have."""
    reader = SplineExtractor.from_pretrained(model, count="last", chat_template=TEMPLATE)
    labels = Labels.from_columns({"label": ["odd" if i % 2 else "even" for i in range(60)]})
    chats = [[{"role": "user", "content": text}] for text in texts_of(60)]
    folder = tmp_path_factory.mktemp("classifiers") / "answers"
    save_classifier(train(reader.extract(chats), labels, name="answers"), folder)
    return str(folder)


@pytest.mark.parametrize("count", ["all", "last"])
def test_verdicts_on_conversations_are_the_classifiers(of_answers: str, count: Any) -> None:
    annotate = PredictBatch(
        of_answers, messages_column="text", count=count, chat_template=TEMPLATE, on_error="raise"
    )
    found = pickle.loads(pickle.dumps(annotate))(pa.table({"text": CHATS})).to_pydict()
    expected = load_classifier(of_answers, chat_template=TEMPLATE).predict_proba(CHATS)
    assert found["probability.odd"] == expected[:, 1].tolist()


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({}, ConfigurationError, r"trained on conversations \(count last\) .name their column"),
        ({"messages_column": "m", "count": "user"}, ConfigurationError, "on count last, not on us"),
        ({"count": "last"}, ConfigurationError, "rows hold texts .name the column of conversat"),
        (
            {"messages_column": "m", "chat_template": "{% for %}"},
            ChatTemplateError,
            "refuses all conversations: line 1",
        ),
        (
            {"messages_column": "m", "chat_template": TEMPLATE + " "},
            ChatTemplateError,
            "'answers' was trained with the chat template of sha256",
        ),
    ],
    ids=["texts", "count", "no column", "no template", "another template"],
)
def test_what_every_row_would_be_refused_for_is_told_first(
    settings: dict[str, Any], error: type[SplineLLMError], message: str, of_answers: str
) -> None:
    with pytest.raises(error, match=message):
        PredictBatch(of_answers, **settings)


def test_a_model_without_the_template_is_told_before_a_row_is_read(of_answers: str) -> None:
    annotate = PredictBatch(of_answers, messages_column="text")  # bad rows would be null
    with pytest.raises(ChatTemplateError, match="the model has no chat template"):
        annotate({"text": CHATS})


def test_features_of_conversations_need_their_column_and_a_template(model: str) -> None:
    with pytest.raises(ConfigurationError, match="name the column of conversations"):
        SplineBatch(model, count="user")
    with pytest.raises(ChatTemplateError, match="refuses all conversations"):
        SplineBatch(model, messages_column="m", chat_template="{% for %}")
