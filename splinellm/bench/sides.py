"""The four things that are timed against each other, on the same prompts and the same model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from splinellm.bench.naive import NaiveExtractor
from splinellm.extraction import SplineExtractor
from splinellm.extraction.batching import batch_size, longest_first
from splinellm.geometry import real_tokens

NAIVE, BARE, PRODUCTS, EXTRACT = "naive", "bare", "products", "extract"

Run = Callable[[], object]


def sides(extractor: SplineExtractor, prompts: Sequence[str]) -> dict[str, Run]:
    """Make the four sides.

    Parameters
    ----------
    extractor : SplineExtractor
        What is measured.
    prompts : sequence of str
        No two of them alike, or equal work is not done twice by one side alone.

    Returns
    -------
    dict of str to callable
        ``naive``: see :mod:`splinellm.bench.naive`, all layers, whatever the extractor's.
        ``bare``: the same model's own forward pass, in the same batches, without hooks.
        ``products``: the matrix products that extraction makes, and nothing else.
        ``extract``: what the library does.
    """
    tokenized, _ = extractor.tokenize(prompts)
    ids = [prompt.ids for prompt in tokenized.values()]
    naive = NaiveExtractor(extractor.backbone)
    products = _products_of(extractor, ids)
    return {
        NAIVE: lambda: naive.extract(ids),
        BARE: lambda: _read_bare(extractor, ids),
        PRODUCTS: lambda: _multiply(products),
        EXTRACT: lambda: extractor.extract(prompts),
    }


def _batches(
    extractor: SplineExtractor, ids: Sequence[list[int]]
) -> Iterator[tuple[Tensor, Tensor]]:
    order = [ids[i] for i in longest_first([len(prompt) for prompt in ids])]
    while order:
        size = batch_size([len(prompt) for prompt in order], extractor.batch_tokens)
        yield extractor.reader.pad(order[:size])
        order = order[size:]


@torch.inference_mode()
def _read_bare(extractor: SplineExtractor, ids: Sequence[list[int]]) -> None:
    backbone = extractor.backbone
    for batch, lengths in _batches(extractor, ids):
        arguments = backbone.architecture.arguments(real_tokens(lengths, batch.shape[1]))
        backbone.model(input_ids=batch, **arguments)


def _products_of(
    extractor: SplineExtractor, ids: Sequence[list[int]]
) -> list[tuple[torch.Size, Tensor]]:
    """Shapes of the inputs and weights of all linear maps that one extraction calls."""
    seen: list[tuple[torch.Size, Tensor]] = []

    def note(module: nn.Module, args: tuple[Any, ...]) -> None:
        weight = module.get_parameter("weight")
        seen.append((args[0].shape, weight.T if isinstance(module, Conv1D) else weight))

    hooks = [
        module.register_forward_pre_hook(note)
        for module in extractor.backbone.model.modules()
        if isinstance(module, nn.Linear | Conv1D)
    ]
    try:
        extractor.extract(ids)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


@torch.inference_mode()
def _multiply(products: list[tuple[torch.Size, Tensor]]) -> None:
    inputs: dict[torch.Size, Tensor] = {}
    for shape, weight in products:
        if shape not in inputs:
            inputs[shape] = torch.randn(shape, device=weight.device).to(weight.dtype)
        F.linear(inputs[shape], weight)
