"""A checkpoint is loaded only as far as its last wanted layer."""

from __future__ import annotations

from pathlib import Path

import pytest

from splinellm import SplineExtractor
from splinellm.backbone.loading import load_backbone
from splinellm.errors import SchemaError
from tests.architectures import CASES, case_model
from tests.tiny import random_prompts, tiny_tokenizer

PROMPTS = random_prompts(3, 9, 14)


@pytest.mark.parametrize("name", sorted(CASES))
def test_first_layers_alone_give_the_same_numbers(name: str, tmp_path: Path) -> None:
    case_model(name).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    whole = load_backbone(str(tmp_path))
    part = load_backbone(str(tmp_path), layers="0-1")
    assert (part.n_loaded_layers, part.n_layers) == (2, 3)
    features = "paper,blocks:8" if whole.architecture.shows_attention else "spline,blocks:8"
    expected = SplineExtractor(whole, layers="0-1", features=features)
    found = SplineExtractor(part, layers="0-1", features=features)
    assert (found.extract(PROMPTS).values == expected.extract(PROMPTS).values).all()
    assert expected.provenance.first_difference(found.provenance) is None
    with pytest.raises(SchemaError, match="layer 2 was not loaded"):
        SplineExtractor(part, features=features)
    for layer in (2, -1):  # of the whole model, not of what was loaded of it
        with pytest.raises(SchemaError, match="layer 2 was not loaded"):
            part.layer(layer)
        with pytest.raises(SchemaError, match="layer 2 was not loaded"):
            found.layer_inputs("ab", [layer])


def test_from_pretrained_loads_what_it_is_asked_for(tmp_path: Path) -> None:
    case_model("llama").save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    for layers in ("1", [1], iter([1]), 1):
        extractor = SplineExtractor.from_pretrained(str(tmp_path), layers=layers)
        assert extractor.backbone.n_loaded_layers == 2
        assert extractor.schema.layers == (1,)
