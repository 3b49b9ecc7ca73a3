"""The pictures of docs/gallery.md, made anew.

    python examples/gallery.py [--folder docs/gallery] [--only NAME,NAME]
        [--grokking grokking/log.jsonl] [--data FOLDER]

Needs the extra ``plots``, ``pip install pillow``, and a Chrome or Chromium that is there. The
picture of a training is drawn if the log of examples/grokking.py is named; that of domains if a
folder is named that has ``domains.csv``, with the columns ``text`` and ``label``. All other texts
are of novels in the public domain, or made up here.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path

import kaleido
import numpy as np
import plotly.graph_objects as go
import torch
from PIL import Image
from torch import nn

from splinellm import SplineExtractor
from splinellm.plots import (
    dimension_picture,
    effects_picture,
    map_picture,
    prefix_picture,
    slice_picture,
    tokens_picture,
    training_picture,
)
from splinellm.regions import PiecewiseAffine, local_scaling

MODEL = "smollm2-135m"
PROMPT = "The capital of France is Paris, not London"
TOKENS = {"capital": 1, "France": 3, "not": 7}
LAYER = 15
N_DOMAIN_TEXTS = 500
WAIT_S = 1800

_NOVELS = """\
It is a truth universally acknowledged, that a single man in possession of a good fortune, must
be in want of a wife. However little known the feelings or views of such a man may be on his
first entering a neighbourhood, this truth is so well fixed in the minds of the surrounding
families, that he is considered the rightful property of some one or other of their daughters.

Call me Ishmael. Some years ago, never mind how long precisely, having little or no money in my
purse, and nothing particular to interest me on shore, I thought I would sail about a little and
see the watery part of the world. It is a way I have of driving off the spleen and regulating
the circulation.

It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of
foolishness, it was the epoch of belief, it was the epoch of incredulity, it was the season of
Light, it was the season of Darkness, it was the spring of hope, it was the winter of despair.

Alice was beginning to get very tired of sitting by her sister on the bank, and of having
nothing to do: once or twice she had peeped into the book her sister was reading, but it had no
pictures or conversations in it, and what is the use of a book, thought Alice, without pictures
or conversations?
"""
PASSAGES = tuple(" ".join(part.split()) for part in _NOVELS.split("\n\n"))
"""Beginnings in the public domain: of Pride and Prejudice (Jane Austen), Moby-Dick (Herman
Melville), A Tale of Two Cities (Charles Dickens) and Alice in Wonderland (Lewis Carroll)."""


@cache
def _extractor(layers: str | None = None, features: str = "paper") -> SplineExtractor:
    return SplineExtractor.from_pretrained(MODEL, layers=layers, features=features)


def layer_slice() -> go.Figure:
    """The partition of a layer of the default model, in the plane through three tokens."""
    inputs = _extractor().layer_inputs(PROMPT, LAYER)[LAYER].astype(float)
    a, b, c = (inputs[place] for place in TOKENS.values())
    view = _extractor().backbone.layer(LAYER)
    window = (-0.5, 1.5, -0.5, 1.5)
    partition = view.slice_partition(a, b - a, c - a, window)
    title = f"layer {LAYER} of {MODEL}: {len(partition):,} regions"
    return slice_picture(partition, points=np.stack([a, b, c]), labels=[*TOKENS], title=title)


def toy_regions() -> go.Figure:
    """The regions of a network of two inputs, coloured by the slope of its affine maps."""
    torch.manual_seed(3)
    layers = (nn.Linear(2, 14), nn.ReLU(), nn.Linear(14, 14), nn.ReLU(), nn.Linear(14, 1))
    partition = PiecewiseAffine.of(nn.Sequential(*layers)).slice_partition(
        [0.0, 0.0], [1.0, 0.0], [0.0, 1.0], 3.0
    )
    slopes = [local_scaling(region.affine_map()[0]) for region in partition]
    title = f"an MLP (2, 14, 14, 1): {len(partition)} regions"
    return slice_picture(partition, values=slopes, value_name="log of the slope", title=title)


def token_map() -> go.Figure:
    """The tokens of a passage, coloured by the share of hyperplanes they are on the far side of."""
    tokens = _extractor("0-29").extract(PASSAGES[:1], granularity="token")
    title = f"sign fraction of each token, layer {LAYER} of {MODEL}"
    layer = tokens.select(layers=[LAYER])
    return tokens_picture(layer, feature="sign_fraction", layer=LAYER, title=title)


def dimension_by_context() -> go.Figure:
    """The intrinsic dimension of all passages against how much of them was read."""
    tokens = _extractor("0-29").extract(PASSAGES, granularity="token")
    return dimension_picture(tokens, layers=[0, 7, 14, 21, 29], title=MODEL)


def prefixes() -> go.Figure:
    """Features of a passage as it is read."""
    table = _extractor("0-29").extract(PASSAGES[2:3], granularity="prefix")
    return prefix_picture(table, title="“It was the best of times …”, as it is read")


def effects() -> go.Figure:
    """Where sentences of novels and made-up arithmetic differ."""
    sentences = [
        part.strip() + "." for text in PASSAGES for part in text.split(",") if len(part) > 24
    ]
    sums = []
    for a, b, c in np.random.default_rng(0).integers(2, 99, (len(sentences), 3)).tolist():
        sums.append(f"{a} + {b} = {a + b}, {a + b} * {c} = {(a + b) * c}, {c} - {b} = {c - b}")
    table = _extractor("0-29").extract(sentences + sums)
    kinds = ["novel"] * len(sentences) + ["arithmetic"] * len(sums)
    return effects_picture(
        table, kinds, between=["novel", "arithmetic"],
        title=f"{len(sentences)} pieces of novels → {len(sums)} lines of arithmetic",
    )  # fmt: skip


def domains(folder: Path) -> go.Figure:
    """A map of texts of eight domains."""
    by_label: dict[str, list[str]] = {}
    with (folder / "domains.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            by_label.setdefault(row["label"], []).append(row["text"])
    chance = random.Random(0)  # noqa: S311 (no secret)
    each = -(-N_DOMAIN_TEXTS // len(by_label))
    chosen = [(x, name) for name in sorted(by_label) for x in chance.sample(by_label[name], each)]
    chance.shuffle(chosen)
    texts, labels = zip(*chosen[:N_DOMAIN_TEXTS], strict=True)
    extractor = SplineExtractor.from_pretrained(
        MODEL, layers="0-9", features="blocks", max_tokens=128
    )
    table = extractor.extract(texts)
    title = "sign blocks of layers 0 to 9, t-SNE"
    return map_picture(table, labels, method="tsne", label_name="domain", title=title)


def main() -> None:
    """Draw them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, default=Path("docs/gallery"))
    parser.add_argument("--only", default="", help="names, separated by commas")
    parser.add_argument("--grokking", type=Path)
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()
    pictures: dict[str, Callable[[], go.Figure]] = {
        "layer": layer_slice,
        "toy": toy_regions,
        "tokens": token_map,
        "dimension": dimension_by_context,
        "prefix": prefixes,
        "effects": effects,
    }
    if arguments.data is not None:
        pictures["domains"] = lambda: domains(arguments.data)
    if arguments.grokking is not None:
        rows = [json.loads(line) for line in arguments.grokking.read_text().splitlines()]
        title = "1,000 digits: accuracy and local complexity"
        pictures["grokking"] = lambda: training_picture(rows, title=title)
    wanted = arguments.only.split(",") if arguments.only else [*pictures]
    if unknown := [name for name in wanted if name not in pictures]:
        needs = "; domains needs --data, grokking needs --grokking"
        parser.error(f"no picture '{unknown[0]}': there are {', '.join(pictures)}{needs}")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name in wanted:
        path = write(pictures[name](), name, arguments.folder)
        print(f"{path}: {path.stat().st_size:,} bytes", flush=True)


def write(figure: go.Figure, name: str, folder: Path) -> Path:
    """Write a picture, as small as may be: PNG of 256 colours."""
    size = {"width": figure.layout.width or 720, "height": figure.layout.height or 560}
    # A partition is as dense as a photograph; lines and points are better left sharp.
    path = folder / f"{name}.{'jpg' if name == 'layer' else 'png'}"
    # Chromium needs minutes for 400,000 polygons, more than kaleido waits by default.
    data = kaleido.calc_fig_sync(
        figure, opts={"format": path.suffix[1:], **size}, kopts={"timeout": WAIT_S}
    )
    if path.suffix == ".png":
        small = io.BytesIO()
        with Image.open(io.BytesIO(data)) as picture:
            picture.convert("RGB").quantize(256).save(small, "png", optimize=True)
        data = small.getvalue()
    path.write_bytes(data)
    return path


if __name__ == "__main__":
    main()
