"""A row for every token that a watched model has read."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from splinellm import FeatureTable, SplineExtractor, attach
from splinellm.errors import ConfigurationError, NothingRecordedError
from tests.live.models import (
    ALL,
    PROMPTS,
    Watch,
    causal_lm,
    extractor_of,
    left_padded,
    options,
    real,
)


def check(table: FeatureTable, extractor: SplineExtractor, texts: list[list[int]]) -> None:
    expected = extractor.extract(texts, granularity="token")
    assert table.names == expected.names
    assert table.tokens is not None
    assert expected.tokens is not None
    assert table.tokens.row.tolist() == expected.tokens.row.tolist()
    assert table.tokens.position.tolist() == expected.tokens.position.tolist()
    assert table.n_tokens.tolist() == expected.n_tokens.tolist()
    np.testing.assert_allclose(table.values, expected.values, atol=4e-6, rtol=2e-3)


@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_every_token_has_its_own_row_while_generate_goes_on(kind: str) -> None:
    model = causal_lm(kind)
    inputs = left_padded()
    extractor = extractor_of(model)
    with torch.no_grad(), attach(model, features=ALL, granularity="token") as recorder:
        with pytest.raises(NothingRecordedError):
            _ = recorder.table
        model(**inputs)
        check(recorder.table, extractor, PROMPTS)
        watch = Watch(recorder)
        model.generate(**inputs, **options(max_new_tokens=4, stopping_criteria=[watch]))
    assert len(watch.seen) == 4
    for ids, table in watch.seen:
        mask = torch.ones_like(ids)
        mask[:, : inputs["attention_mask"].shape[1]] = inputs["attention_mask"]
        check(table, extractor, real(ids, mask))


def test_names_provenance_and_layers_are_those_of_tokens() -> None:
    model = causal_lm()
    with torch.no_grad(), attach(model, layers="0", granularity="token") as recorder:
        model(torch.tensor([[5, 6, 7]]))
        table = recorder.table
    assert recorder.schema.names == table.names
    assert table.names[0] == "layer_00.sign_fraction"
    assert table.provenance.granularity == "token"
    assert table.to_pandas()["position"].tolist() == [0, 1, 2]


def test_finished_rows_stay_as_they_are() -> None:
    model = causal_lm()
    ids = torch.tensor([[5, 6, 7], [8, 9, 10]])
    with torch.no_grad(), attach(model, granularity="token") as recorder:
        cache = model(ids).past_key_values
        recorder.finish([1])
        model(ids[:, :2], past_key_values=cache)
        check(recorder.table, extractor_of(model, "paper"), [[5, 6, 7, 5, 6], [8, 9, 10]])


@pytest.mark.parametrize("granularity", ["prefix", "word"])
def test_others_are_refused(granularity: str) -> None:
    with pytest.raises(ConfigurationError, match=f"'{granularity}' cannot be watched"):
        attach(causal_lm(), granularity=granularity)  # type: ignore[arg-type]
