"""The built-in encoder's numbers, against NumPy on what transformers' own forward pass shows.

Nothing of the library is between the text and the expected numbers: its own tokenizer and model
are loaded from the folder, one text at a time, with eager attention.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from splinellm import SplineExtractor
from splinellm.backbone.builtin import BUILTIN_MODELS, pull
from splinellm.backbone.conversion import checkpoint_folder
from tests import oracle

pytestmark = pytest.mark.model

TEXTS = [
    "You are an idiot.",
    "def add(a, b):\n    return a + b\n",
    "Whereas the parties hereto agree that this covenant shall bind their heirs and assigns.",
    "👍",
    "The washing was brought in before the rain, and the cat was told why. " * 4,
]


@pytest.fixture(scope="module")
def expected() -> tuple[np.ndarray, list[list[int]]]:
    """Features (N, L, 8 + 32), and the token ids."""
    folder = checkpoint_folder(pull("minilm-l6"), BUILTIN_MODELS["minilm-l6"].sha256)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, attn_implementation="eager").double().eval()
    tables, ids = [], []
    for text in TEXTS:
        encoded = tokenizer(text, return_tensors="pt")
        seen: list[np.ndarray] = []  # what the MLP of each layer reads, (T, D)
        hooks = [
            layer.intermediate.register_forward_pre_hook(
                lambda _module, args, seen=seen: seen.append(args[0][0].numpy())
            )
            for layer in model.encoder.layer
        ]
        with torch.no_grad():
            output = model(**encoded, output_attentions=True)
        for hook in hooks:
            hook.remove()
        views = []
        for layer, x, attention in zip(model.encoder.layer, seen, output.attentions, strict=True):
            rows, bias = (p.detach().numpy() for p in layer.intermediate.dense.parameters())
            views.append(oracle.LayerView(x @ rows.T + bias, rows, attention[0, :, 0].numpy()))
        tables.append([[*oracle.features(view).values()][:40] for view in views])
        ids.append(encoded["input_ids"][0].tolist())
    return np.array(tables), ids


def check(found: np.ndarray, expected: np.ndarray) -> None:
    """The golden tolerances, and the golden order: the seven, the dimension, the blocks."""
    deviation = np.abs(found - expected)
    assert deviation[..., :4].max() <= 1.5e-3
    distance = deviation[..., 4:7]
    assert ((distance > 2e-2 * expected[..., 4:7]) & (distance > 2e-6)).mean() <= 1 / 1000
    assert deviation[..., 7].max() <= 1
    assert (deviation[..., 7] > 0).mean() <= 1 / 200
    assert deviation[..., 8:].max() <= 2.5e-2  # one sign of 48 in one token


def test_alone_and_in_a_batch(
    minilm: SplineExtractor, expected: tuple[np.ndarray, list[list[int]]]
) -> None:
    table, ids = expected
    assert [minilm.tokenize(TEXTS)[0][i].ids for i in range(len(TEXTS))] == ids
    for row, text in enumerate(TEXTS):
        check(minilm.extract([text]).array, table[row : row + 1])
    check(minilm.extract([*TEXTS, "x", "y " * 60]).array[: len(TEXTS)], table)
    assert len(np.unique(table[..., 7])) > 10


def test_facts(minilm: SplineExtractor) -> None:
    backbone = minilm.backbone
    assert (backbone.n_layers, backbone.n_hyperplanes, backbone.max_positions) == (6, 1536, 512)
    assert minilm.provenance.architecture == "bert"
    assert backbone.weights_sha256 == BUILTIN_MODELS["minilm-l6"].weights_sha256
    assert minilm.verify().passed


def test_a_long_text_ends_with_sep(minilm: SplineExtractor) -> None:
    (prompt,) = minilm.tokenize(["word " * 900])[0].values()
    assert (len(prompt.ids), prompt.ids[0], prompt.ids[-1], prompt.truncated) == (
        *(512, 101, 102),
        True,
    )
