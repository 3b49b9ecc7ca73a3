"""The pictures of docs/gallery.md, made anew.

    python examples/gallery.py [--folder docs/gallery] [--grokking grokking/log.jsonl]

Needs the extra ``plots``, and a Chrome or Chromium that is there. The picture of a training is
drawn if the log of examples/grokking.py is named.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import torch
from torch import nn

from splinellm import SplineExtractor
from splinellm.plots import slice_picture, training_picture
from splinellm.regions import PiecewiseAffine, local_scaling

PROMPT = "The capital of France is Paris, not London"
TOKENS = {"capital": 1, "France": 3, "not": 7}
LAYER = 15


def layer_slice() -> go.Figure:
    """The partition of a layer of the default model, in the plane through three tokens."""
    extractor = SplineExtractor.from_pretrained("smollm2-135m")
    inputs = extractor.layer_inputs(PROMPT, LAYER)[LAYER].astype(float)
    a, b, c = (inputs[place] for place in TOKENS.values())
    view = extractor.backbone.layer(LAYER)
    window = (-0.5, 1.5, -0.5, 1.5)
    partition = view.slice_partition(a, b - a, c - a, window)
    title = f"layer {LAYER} of smollm2-135m: {len(partition):,} regions"
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


def main() -> None:
    """Draw them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, default=Path("docs/gallery"))
    parser.add_argument("--grokking", type=Path)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    figures = {"layer.png": layer_slice(), "toy.png": toy_regions()}
    if arguments.grokking is not None:
        rows = [json.loads(line) for line in arguments.grokking.read_text().splitlines()]
        title = "1,000 digits: accuracy and local complexity"
        figures["grokking.png"] = training_picture(rows, title=title)
    for name, figure in figures.items():
        figure.write_image(arguments.folder / name, width=900, height=700)
        print(arguments.folder / name)


if __name__ == "__main__":
    main()
