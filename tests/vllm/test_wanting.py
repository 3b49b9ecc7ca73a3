"""What users ask of an engine's model, read without vLLM."""

from __future__ import annotations

import pytest

from splinellm.errors import SchemaError
from splinellm.vllm.parts import ServedModel
from splinellm.vllm.wanting import wanted_of

SERVED = ServedModel("tiny", "llama", 3, 64, "float32", 256, "TRITON_ATTN")


def test_layers_and_features_are_read_as_an_extractor_reads_them() -> None:
    wanted = wanted_of(SERVED, layers=[0, -1], features="blocks:8")
    assert wanted.layers == (0, 2)
    provenance = wanted.provenance(SERVED)
    assert (provenance.layers, provenance.n_blocks, provenance.n_layers) == ((0, 2), 8, 3)
    assert wanted_of(SERVED).layers == (0, 1, 2)


def test_a_layer_that_the_model_lacks_is_refused() -> None:
    with pytest.raises(SchemaError, match="layer 3 does not exist"):
        wanted_of(SERVED, layers="3")
