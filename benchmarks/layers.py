"""Time of the first three layers as a share of all layers: what stopping early saves."""

from __future__ import annotations

from splinellm import SplineExtractor
from splinellm.backbone.loading import load_backbone
from splinellm.bench.timing import interleaved, machine, prompts_of


def main() -> None:
    backbone = load_backbone("smollm2-135m")
    prompts = prompts_of(64, 2)
    tasks = {}
    for layers in ("all", "0-2"):
        extractor = SplineExtractor(backbone, layers=layers)
        tasks[layers] = lambda extractor=extractor: extractor.extract(prompts)
    seconds = interleaved(tasks, repeats=5)
    print(machine())
    print(f"layers 0-2 take {seconds['0-2'] / seconds['all']:.1%} of the time of all 30")


if __name__ == "__main__":
    main()
