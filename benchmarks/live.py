"""What it costs to watch a model while it generates: per token, against plain `generate`.

Run ``python benchmarks/live.py [new tokens] [repeats]``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from transformers import LlamaForCausalLM, PreTrainedModel

from splinellm import attach
from splinellm.backbone.loading import Backbone, load_backbone
from splinellm.bench.timing import interleaved, machine, prompts_of

N_ROWS = 3
FEATURES = ("paper", "spline", "blocks", "intrinsic_dimension")


def with_head(backbone: Backbone) -> PreTrainedModel:
    """Put the default model's head on, which is its embedding."""
    with torch.device("meta"):
        model = LlamaForCausalLM(backbone.model.config)
    model.model = backbone.model
    model.lm_head.weight = backbone.model.embed_tokens.weight
    return model.eval()


def main() -> None:
    n_new, repeats = map(int, sys.argv[1:3]) if len(sys.argv) == 3 else (64, 7)
    backbone = load_backbone("smollm2-135m")
    model = with_head(backbone)
    inputs = backbone.tokenizer(
        [prompt[: 40 * (row + 1)] for row, prompt in enumerate(prompts_of(N_ROWS, 4))],
        return_tensors="pt",
        padding=True,
        padding_side="left",
    )

    def generate() -> None:
        model.generate(
            **inputs, do_sample=False, max_new_tokens=n_new, min_new_tokens=n_new, pad_token_id=0
        )

    def watched(features: str) -> Callable[[], None]:
        def run() -> None:
            with attach(model, features=features) as recorder:
                generate()
                assert recorder.table.values.size

        return run

    tasks = {"plain": generate} | {name: watched(name) for name in FEATURES}
    seconds = interleaved(tasks, repeats)
    print(machine())
    print(f"{N_ROWS} rows, {n_new} new tokens, median of {repeats}")
    for name, time in seconds.items():
        ratio = time / seconds["plain"]
        print(f"{name:20} {time / n_new * 1e3:7.1f} ms per token and batch   {ratio:.3f} of plain")


if __name__ == "__main__":
    main()
