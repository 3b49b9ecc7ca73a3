"""Which token of which text a row stands for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splinellm import FeatureTable, SplineExtractor
from splinellm.backbone.loading import Backbone
from splinellm.errors import TableFormatError
from splinellm.extraction.tokens import Tokenizer
from splinellm.token_index import NOWHERE, TOKEN_SCHEMA, TokenIndex, colour_range
from tests.fakes import fake_features, fake_provenance
from tests.tables import check_equal
from tests.tiny import VOCABULARY, tiny_model, tiny_tokenizer

TEXTS = ["The capital of France", "a\U0001f44db", " \n\t", "\x00", "é\u0301x"]


def tokenizer(**options: Any) -> Tokenizer:
    settings = {"n_vocabulary": VOCABULARY, "max_tokens": 50, "allow_special_tokens": False}
    return Tokenizer(tiny_tokenizer(**options), **settings)  # type: ignore[arg-type]


def index_of(prompts: dict[int, Any], reader: Tokenizer | None = None) -> TokenIndex:
    reader = reader or tokenizer()
    places = list(prompts)
    tokenized, errors = reader([prompts[place] for place in places])
    assert not errors
    return reader.index(prompts, {p: tokenized[i] for i, p in enumerate(places)})


def test_offsets_are_those_of_the_texts() -> None:
    texts = {2: TEXTS[0], 5: "of it"}
    index = index_of(texts)
    assert sorted(set(index.row.tolist())) == [2, 5]
    for place, text in texts.items():
        mine = index[index.row == place]
        assert "".join(mine.token) == text  # ASCII: no character is split
        assert mine.position.tolist() == list(range(len(mine)))
        assert mine.begin.tolist() == [0, *mine.end[:-1].tolist()]
        assert mine.end[-1] == len(text)


def test_tokens_that_share_a_character_all_have_it() -> None:
    index = index_of({0: TEXTS[1]})
    shared = [i for i, token in enumerate(index.token) if token == "\U0001f44d"]
    assert len(shared) == 4  # its bytes
    assert set(index.begin[shared].tolist()) == {1}
    assert set(index.end[shared].tolist()) == {2}
    assert index.token[0] == "a"
    assert index.token[-1] == "b"


def test_special_token_that_is_not_in_the_text_is_spelled_out() -> None:
    index = index_of({0: "Hi"}, tokenizer(adds_bos=True))
    assert index.token[0] == "<s>"
    assert (index.begin[0], index.end[0]) == (0, 0)
    assert "".join(index.token[1:]) == "Hi"


@pytest.mark.filterwarnings("ignore::splinellm.prompts.SpecialTextWarning")
def test_forged_special_token_stays_text() -> None:
    index = index_of({0: "x</s>"})
    assert len(index) > 2
    assert "".join(index.token) == "x</s>"


def test_ids_have_no_place_in_a_text() -> None:
    reader = tokenizer()
    ids = reader(["The"])[0][0].ids
    index = index_of({0: ids, 1: "The"}, reader)
    n = len(ids)
    assert index.begin[:n].tolist() == index.end[:n].tolist() == [NOWHERE] * n
    assert index.token[:n] == index.token[n:]
    assert index.to_arrow()["begin"].null_count == n


def test_cut_prompts_have_the_tokens_that_were_read() -> None:
    reader = tokenizer()
    reader.max_tokens = 3
    index = index_of({0: TEXTS[0]}, reader)
    assert len(index) == 3
    assert TEXTS[0].startswith("".join(index.token))


def table_of(index: TokenIndex, granularity: str = "prefix") -> FeatureTable:
    provenance = fake_provenance(granularity=granularity)
    n_columns = len(provenance.layers) * len(provenance.features)
    n_rows = len(index)
    values = [fake_features(str(i), n_columns) for i in range(n_rows)]
    return FeatureTable(
        np.array(values, np.float32).reshape(n_rows, n_columns),
        np.asarray(index.position) + 1,
        np.arange(n_rows) % 2 == 0,
        provenance,
        index,
    )


def check_same(found: TokenIndex | None, expected: TokenIndex) -> None:
    assert found is not None
    for name in ("row", "position", "begin", "end"):
        a, b = getattr(found, name), getattr(expected, name)
        assert a.dtype == b.dtype == np.int64
        np.testing.assert_array_equal(a, b)
    assert list(found.token) == list(expected.token)


WAYS = ["arrow", "pandas", "parquet", "csv", "jsonl", "npz"]


def there_and_back(table: FeatureTable, way: str, folder: Path) -> FeatureTable:
    if way in ("arrow", "pandas"):
        made: FeatureTable = getattr(FeatureTable, f"from_{way}")(getattr(table, f"to_{way}")())
        return made
    path = folder / f"t.{way}"
    getattr(table, f"to_{way}")(path)
    return getattr(FeatureTable, f"from_{way}")(path)  # type: ignore[no-any-return]


@pytest.mark.parametrize("way", WAYS)
def test_round_trip(way: str, tmp_path: Path) -> None:
    ids = tokenizer()(["The"])[0][0].ids
    texts = dict(enumerate([*TEXTS, "nan", "null", "1", '"', ids]))
    table = table_of(index_of(texts))
    found = there_and_back(table, way, tmp_path)
    check_equal(found, table)
    check_same(found.tokens, table.tokens or index_of({}))


@pytest.mark.parametrize("way", WAYS)
def test_round_trip_of_no_row(way: str, tmp_path: Path) -> None:
    empty = TokenIndex(*[np.empty(0, np.int64)] * 2, [], *[np.empty(0, np.int64)] * 2)
    found = there_and_back(table_of(empty), way, tmp_path)
    assert len(found) == 0
    check_same(found.tokens, empty)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), max_size=6))
@settings(max_examples=50, deadline=None)
@pytest.mark.parametrize("way", WAYS)
def test_every_text_comes_back(
    way: str, tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    positions = np.arange(len(texts))
    index = TokenIndex(positions, positions, texts, positions, positions + 1)
    found = there_and_back(table_of(index), way, tmp_path_factory.mktemp("t"))
    check_same(found.tokens, index)


def test_slices_and_sums_of_tables_keep_their_tokens(llama: Backbone) -> None:
    table = SplineExtractor(llama).extract(TEXTS[:2], granularity="token")
    assert table.tokens is not None
    for rows in (slice(2, 5), table.tokens.row == 1, np.array([3, 0])):
        part = table[rows]
        assert part.tokens is not None
        expected = np.arange(len(table))[rows]
        assert list(part.tokens.token) == [table.tokens.token[i] for i in expected]
        np.testing.assert_array_equal(part.values, table.values[expected])
    both = FeatureTable.concatenate([table[:2], table[2:]])
    check_equal(both, table)
    check_same(both.tokens, table.tokens)
    assert table.select([1], ["sign_fraction"]).tokens is not None


def test_tokens_belong_to_rows_of_tokens_only() -> None:
    index = index_of({0: "Hi"})
    table = table_of(index)
    with pytest.raises(TableFormatError, match="without tokens"):
        FeatureTable(table.values, table.n_tokens, table.truncated, table.provenance)
    with pytest.raises(TableFormatError, match="with tokens"):
        table_of(index, "prompt")
    with pytest.raises(TableFormatError, match="do not fit"):
        FeatureTable(table.values, table.n_tokens, table.truncated, table.provenance, index[:1])


@pytest.mark.parametrize("name", TOKEN_SCHEMA.names)
@pytest.mark.parametrize("spoiled", ["missing", "text"])
def test_spoiled_token_columns_are_refused(name: str, spoiled: str) -> None:
    frame = table_of(index_of({0: "Hi"})).to_pandas()
    if spoiled == "missing":
        broken = frame.drop(columns=name)
    else:
        broken = frame.assign(**{name: [[1]] * len(frame)})
    broken.attrs = frame.attrs
    with pytest.raises(TableFormatError):
        FeatureTable.from_pandas(broken)


@pytest.mark.parametrize("name", ["row", "position", "token"])
def test_missing_values_are_refused(name: str) -> None:
    arrow = table_of(index_of({0: "Hi"})).to_arrow()
    place = arrow.schema.get_field_index(name)
    nothing = pa.nulls(len(arrow), arrow.schema.field(name).type)
    spoiled = arrow.set_column(place, pa.field(name, nothing.type), nothing)
    with pytest.raises(TableFormatError):
        FeatureTable.from_arrow(spoiled)


def test_a_table_of_prompts_may_stand_beside_columns_called_like_a_tokens() -> None:
    provenance = fake_provenance()
    n_columns = len(provenance.layers) * len(provenance.features)
    values = np.zeros((1, n_columns), np.float32)
    table = FeatureTable(values, np.array([1]), np.array([False]), provenance)
    frame = table.to_pandas()
    frame.insert(0, "row", ["mine"])
    frame.attrs = table.to_pandas().attrs
    assert isinstance(frame, pd.DataFrame)
    check_equal(FeatureTable.from_pandas(frame), table)


def test_extraction_names_the_tokens() -> None:
    backbone = Backbone(tiny_model(), tiny_tokenizer(adds_bos=True), "tiny")
    table = SplineExtractor(backbone).extract(["a\U0001f44d"], granularity="prefix")
    assert table.tokens is not None
    assert list(table.tokens.token) == ["<s>", "a", *["\U0001f44d"] * 4]
    assert table.n_tokens.tolist() == [1, 2, 3, 4, 5, 6]
    frame = table.to_pandas()
    assert list(frame.columns[:7]) == [*TOKEN_SCHEMA.names, "n_tokens", "truncated"]


@pytest.mark.parametrize(
    ("numbers", "ends"),
    [
        ([0.7, 0.1, 0.2, 0.3], (0.1, 0.3)),  # the first is farther off than the rest are apart
        ([-0.7, 0.1, 0.2, 0.3], (0.1, 0.3)),
        ([0.4, 0.1, 0.2, 0.3], (0.1, 0.4)),
        ([0.1, 0.7, 0.2, 0.3], (0.1, 0.7)),  # only the first is left out
        ([0.7, 0.1, 0.1, 0.1], (0.1, 0.7)),  # or there were no scale
        ([0.7, 0.1, 0.2], (0.1, 0.7)),
        ([*range(50)], (1.0, 48.0)),
    ],
)
def test_colours_are_not_spent_on_a_token_far_from_all(
    numbers: list[float], ends: tuple[float, float]
) -> None:
    assert colour_range(np.array(numbers)) == ends
