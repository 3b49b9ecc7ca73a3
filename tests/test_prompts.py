"""What is read as prompts, whatever holds them, and what is refused by name."""

from __future__ import annotations

import io
import subprocess
import sys
from array import array
from collections import UserList, UserString, deque
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from transformers import BatchEncoding

from splinellm import SplineExtractor
from splinellm.errors import PromptError
from splinellm.extraction.caching import CachedExtractor
from splinellm.extraction.hidden_states import mean_hidden_states
from splinellm.extraction.stores import MemoryStore
from splinellm.prompts import as_prompts, check_prompt, iter_prompts
from tests.tiny import tiny_backbone, tiny_tokenizer

TEXTS = ["hello you", "quick fox", "hello you"]
IDS = [[5, 6, 7], [8, 9]]
MASK = [[1, 1, 1], [1, 1, 0]]
PADDED = [[5, 6, 7], [8, 9, 3]]
LEFT_PADDED, LEFT_MASK = [[5, 6, 7], [3, 8, 9]], [[1, 1, 1], [0, 1, 1]]


Shade = Enum("Shade", {"DARK": "dark"}, type=str)  # whose str() is not its text


class Tone(StrEnum):
    LOUD = "loud"


class PolarsLike:
    """A polars Series: `to_list`, a shape, and no `tolist`."""

    def __init__(self, values: list[Any]) -> None:
        self._values = values
        self.shape = (len(values),)

    shape = ()

    def __iter__(self) -> Any:
        return iter(self._values)

    def to_list(self) -> list[Any]:
        return list(self._values)


class DatasetLike:
    """A data set of datasets: rows are dicts, columns have names."""

    def __init__(self, columns: dict[str, list[Any]]) -> None:
        self._columns = columns

    @property
    def column_names(self) -> list[str]:
        return list(self._columns)

    @property
    def shape(self) -> tuple[int, int]:
        return len(next(iter(self._columns.values()))), len(self._columns)

    def __getitem__(self, name: str) -> list[Any]:
        return self._columns[name]

    def __iter__(self) -> Any:
        for row in zip(*self._columns.values(), strict=True):
            yield dict(zip(self._columns, row, strict=True))


class StreamLike:
    """An iterable data set: rows alone."""

    column_names = ("text",)

    def __iter__(self) -> Any:
        return iter([{"text": text} for text in TEXTS])


CONTAINERS: dict[str, Any] = {
    "list": list(TEXTS),
    "tuple": tuple(TEXTS),
    "deque": deque(TEXTS),
    "UserList": UserList(TEXTS),
    "generator": lambda: (text for text in TEXTS),
    "map": lambda: map(str, TEXTS),
    "dict values": {1: TEXTS[0], 2: TEXTS[1], 3: TEXTS[2]}.values(),
    "str array": np.array(TEXTS),
    "object array": np.array(TEXTS, dtype=object),
    "column array": np.array(TEXTS, dtype=object).reshape(-1, 1),
    "row of one": np.array([["one"]]),
    "series": pd.Series(TEXTS),
    "series with an odd index": pd.Series(TEXTS, index=["columns", "shape", "tolist"]),
    "series with a repeated index": pd.Series(TEXTS, index=[7, 7, 0]),
    "string series": pd.Series(TEXTS, dtype="string"),
    "categories": pd.Series(TEXTS, dtype="category"),
    "index": pd.Index(TEXTS),
    "frame": pd.DataFrame({"text": TEXTS}, index=[3, 1, 2]),
    "frame with levels": pd.DataFrame({("a", "text"): TEXTS}),
    "Arrow array": pa.array(TEXTS),
    "Arrow chunks": pa.chunked_array([TEXTS[:1], TEXTS[1:]]),
    "Arrow dictionary": pa.array(TEXTS).dictionary_encode(),
    "Arrow table": pa.table({"text": TEXTS}),
    "Arrow batch": pa.RecordBatch.from_pydict({"text": TEXTS}),
    "list of Arrow scalars": list(pa.array(TEXTS)),
    "polars series": PolarsLike(TEXTS),
    "data set": DatasetLike({"text": TEXTS}),
    "stream": StreamLike(),
}


@pytest.mark.parametrize("kind", CONTAINERS)
def test_every_column_of_texts_is_read_row_by_row(kind: str) -> None:
    given = CONTAINERS[kind]
    prompts = as_prompts(given() if callable(given) else given)
    assert prompts == (["one"] if kind == "row of one" else TEXTS)
    assert {type(prompt) for prompt in prompts} == {str}


@pytest.mark.parametrize(
    "prompts",
    ["hi", np.str_("hi"), np.array("hi"), UserString("hi"), np.array("hi", dtype=object)],
    ids=lambda value: type(value).__name__,
)
def test_one_text_is_one_prompt(prompts: Any) -> None:
    assert as_prompts(prompts) == ["hi"]
    assert type(as_prompts(prompts)[0]) is str


def test_strings_of_other_classes_are_read_as_their_text() -> None:
    assert as_prompts([Shade.DARK, Tone.LOUD, np.str_("hi")]) == ["dark", "loud", "hi"]
    assert as_prompts(Shade.DARK) == ["dark"]


@pytest.mark.parametrize(
    ("prompts", "expected"),
    [
        (IDS, IDS),
        ([tuple(ids) for ids in IDS], IDS),
        ([np.array(ids) for ids in IDS], IDS),
        ([torch.tensor(ids) for ids in IDS], IDS),
        ([torch.tensor([ids]) for ids in IDS], IDS),
        ([array("i", ids) for ids in IDS], IDS),
        ([pd.Series(ids) for ids in IDS], IDS),
        ([range(5, 8)], [[5, 6, 7]]),
        (np.array([[5, 6, 7]]), [[5, 6, 7]]),
        (torch.tensor([[5, 6, 7]]), [[5, 6, 7]]),
        (pa.array(IDS), IDS),
        (pd.Series(IDS), IDS),
        (BatchEncoding({"input_ids": IDS}), IDS),
        (BatchEncoding({"input_ids": [5, 6, 7]}), [[5, 6, 7]]),
        (BatchEncoding({"input_ids": torch.tensor([5, 6, 7])}), [[5, 6, 7]]),
        (BatchEncoding({"input_ids": [5, 6, 3], "attention_mask": [1, 1, 0]}), [[5, 6]]),
        (BatchEncoding({"input_ids": PADDED, "attention_mask": MASK}), IDS),
        ({"input_ids": np.array(PADDED), "attention_mask": np.array(MASK)}, IDS),
        (
            {"input_ids": torch.tensor(PADDED), "attention_mask": torch.tensor(MASK)},
            IDS,
        ),
        ({"input_ids": torch.tensor(LEFT_PADDED), "attention_mask": torch.tensor(LEFT_MASK)}, IDS),
        ([{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in IDS], IDS),
        (["hi", torch.tensor([5, 6]), {"input_ids": [7]}], ["hi", [5, 6], [7]]),
    ],
    ids=str,
)
def test_token_ids_are_read_without_padding(prompts: Any, expected: list[Any]) -> None:
    read = as_prompts(prompts)
    assert [one if isinstance(one, str) else [int(i) for i in one] for one in read] == expected
    for index, prompt in enumerate(read):
        check_prompt(prompt, index)


MESSAGES = [{"role": "user", "content": "a secret"}]
SEVERAL = pd.DataFrame({"text": ["a secret"], "label": [1]})


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        (SEVERAL, r"DataFrame of 2 columns \(choose one, as in table\['text'\]\)"),
        (pd.DataFrame(), "DataFrame of 0 columns"),
        (pa.table({"text": ["a secret"], "label": [1]}), "Table of 2 columns"),
        (DatasetLike({"text": ["a secret"], "label": [1]}), "DatasetLike of 2 columns"),
        ({"text": ["a secret"]}, r"a mapping \(dict\) \(give one of its values"),
        ({}, "a mapping"),
        (MESSAGES[0], "a conversation is a list of messages"),
        ({"a secret", "b"}, r"in order, got set \(give a list"),
        (frozenset({"a secret"}), "got frozenset"),
        ({"a secret": 1}.items(), "got dict_items"),
        (b"a secret", r"cannot be bytes \(decode"),
        (bytearray(b"a secret"), r"cannot be bytearray \(decode"),
        (memoryview(b"a secret"), r"cannot be memoryview \(decode"),
        (Path("secret.txt"), "file or path"),
        (io.StringIO("a secret\n"), "file or path"),
        (None, "expected prompts, got NoneType"),
        (3, "expected prompts, got int"),
        (float("nan"), "expected prompts, got float"),
        (True, "expected prompts, got bool"),
        (pd.NA, "expected prompts, got NAType"),
        (np.int64(3), "expected prompts, got int64"),
        (torch.tensor(3), "expected prompts, got one int"),
        (list, "expected prompts, got type"),
        (np.array([["a secret", "b"]]), "ndarray of 1 x 2"),
        (np.zeros((2, 2, 2), int), "ndarray of 2 x 2 x 2"),
        (np.array(PADDED), r"ndarray of 2 rows of token ids may hold padding \(give lists"),
        (torch.tensor(PADDED), "Tensor of 2 rows of token ids may hold padding"),
        (BatchEncoding({"input_ids": torch.tensor(PADDED)}), "may hold padding"),
        ({"input_ids": IDS, "attention_mask": MASK[:1]}, "2 prompts of token ids, but 1 attention"),
        ({"input_ids": [[5, 6]], "attention_mask": [[1]]}, "prompt 0: 2 token ids, but an att"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_would_give_other_rows_is_refused_by_name(prompts: Any, message: str) -> None:
    with pytest.raises(PromptError, match=message) as caught:
        as_prompts(prompts)
    assert "secret" not in str(caught.value).replace("secret.txt", "")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "the text is missing"),
        (float("nan"), "the text is missing"),
        (np.float32("nan"), "the text is missing"),
        (pd.NA, "the text is missing"),
        (pd.NaT, "the text is missing"),
        (pa.scalar(None, pa.string()), "the text is missing"),
        ("", "the text is empty"),
        ([], "the list of token ids is empty"),
        (3, r"expected text, got int \(token ids of one prompt go in a list of their own"),
        (np.int64(3), "expected text, got int64"),
        (3.0, "expected text, got float"),
        (True, "expected text, got bool"),
        (b"secret", r"expected text, got bytes \(decode"),
        (memoryview(b"secret"), r"expected text, got memoryview \(decode"),
        (Path("secret"), r"expected text, got \w+ \(read the file"),
        ({"text": "secret"}, r"expected text, got dict \(give one of its values"),
        (MESSAGES[0], "a conversation is a list of messages"),
        ([{"role": "robot", "content": "a secret"}], r"messages\[0\].role is 'robot'"),
        (["secret"], r"token ids must be whole numbers, not str \(give texts in one flat list"),
        ([[5, 6], [7]], r"whole numbers, not list \(give one list of token ids for each"),
        ([5, 6.0], "whole numbers, not float"),
        ([5, True], "whole numbers, not bool"),
        (np.array([5.0, 6.0]), r"expected text, got ndarray \(give one list of token ids"),
        (torch.tensor(PADDED), "expected text, got Tensor"),
        ({"secret"}, "expected text, got set"),
        ((x for x in "ab"), "expected text, got generator"),
        (object(), "expected text, got object"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_bad_value_fails_alone_and_says_where(value: Any, message: str) -> None:
    column = pd.Series(["fine", value, "fine, too"], dtype=object, index=["x", "x", "y"])
    for prompts in ([*column], column):
        good, bad, other = as_prompts(prompts)
        check_prompt(good, 0)
        check_prompt(other, 2)
        with pytest.raises(PromptError, match=f"^prompt 1: .*{message}") as caught:
            check_prompt(bad, 1)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "prompts",
    [
        MESSAGES,
        tuple(MESSAGES),
        [MESSAGES],
        {"messages": MESSAGES},
        [{"messages": MESSAGES}],
        pd.Series([MESSAGES]),
        pd.DataFrame({"chat": [MESSAGES]}),
        pd.Series([np.array(MESSAGES, dtype=object)]),  # as pandas has a list in Parquet
        pa.array([MESSAGES]),
        pa.table({"chat": [MESSAGES]}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_conversation_is_one_prompt(prompts: Any) -> None:
    assert as_prompts(prompts) == [MESSAGES]


def test_a_stream_is_read_no_faster_than_asked_for() -> None:
    taken: list[int] = []

    def endless() -> Any:
        for number in range(10**9):
            taken.append(number)
            yield f"text {number}"

    stream = iter_prompts(endless())
    assert [next(stream), next(stream)] == ["text 0", "text 1"]
    assert taken == [0, 1]


def test_every_door_reads_the_same(llama: Any) -> None:
    extractor = SplineExtractor(llama, features="sign_mean")
    frame = pd.DataFrame({"text": TEXTS})
    expected = extractor.extract(TEXTS).values
    assert len(expected) == len(TEXTS)
    cached = CachedExtractor(extractor, MemoryStore())
    for table in (extractor.extract(frame), *extractor.iter_extract(frame), cached.extract(frame)):
        np.testing.assert_array_equal(table.values, expected)
    assert len(mean_hidden_states(extractor, frame)) == len(TEXTS)
    assert list(extractor.tokenize(frame)[0]) == [0, 1, 2]
    assert extractor.verify(frame).n_values == expected.size
    doors = (extractor.extract, extractor.extract_valid, cached.extract, extractor.tokenize)
    for door in doors:
        with pytest.raises(PromptError, match="DataFrame of 2 columns"):
            door(SEVERAL)
    with pytest.raises(PromptError, match="DataFrame of 2 columns"):
        next(extractor.iter_extract(SEVERAL))


def test_missing_values_of_a_series_fail_alone(llama: Any) -> None:
    extractor = SplineExtractor(llama, features="sign_mean")
    series = pd.Series(["hello", None, float("nan"), "fox"], index=[9, 9, 1, 0])
    table, errors = extractor.extract_valid(series)
    assert len(table) == 2
    assert {i: error.message for i, error in errors.items()} == {
        1: "the text is missing",
        2: "the text is missing",
    }


def test_padding_of_a_real_encoding_is_not_counted() -> None:
    tokenizer = tiny_tokenizer()
    texts = ["hello", "the quick brown fox"]
    encoding = tokenizer(texts, padding=True, return_tensors="pt")
    encoding.pop("token_type_ids", None)
    extractor = SplineExtractor(tiny_backbone())
    read, expected = extractor.extract(encoding), extractor.extract(texts)
    assert read.n_tokens.tolist() == expected.n_tokens.tolist()
    np.testing.assert_array_equal(read.values, expected.values)


def test_prompts_are_known_without_heavy_imports() -> None:
    code = """
import sys
from splinellm.prompts import as_prompts
assert as_prompts(["a"]) == ["a"]
assert not {"torch", "numpy", "pandas", "pyarrow", "transformers"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
