"""500 prompts that begin with the same 256 tokens: read with and without sharing the beginning."""

from __future__ import annotations

from splinellm import SplineExtractor
from splinellm.backbone.loading import load_backbone
from splinellm.bench.timing import interleaved, machine, prompts_of
from splinellm.extraction import sharing

N_PROMPTS, N_SHARED, N_OWN = 500, 256, 24


def main() -> None:
    backbone = load_backbone("smollm2-135m")
    extractor = SplineExtractor(backbone)
    template = extractor.tokenize(prompts_of(1, 20))[0][0].ids[:N_SHARED]
    own, _ = extractor.tokenize(prompts_of(N_PROMPTS, 2))
    prompts = [template + own[i].ids[:N_OWN] for i in range(N_PROMPTS)]
    saving = sharing.MIN_SAVING

    def read(minimum: float) -> None:
        sharing.MIN_SAVING = minimum
        # A tenth without sharing: it is so much slower that all of it would take minutes.
        extractor.extract(prompts if minimum == saving else prompts[: N_PROMPTS // 10])

    tasks = {"shared": lambda: read(saving), "apart": lambda: read(2.0)}
    seconds = interleaved(tasks, repeats=1)
    ratio = 10 * seconds["apart"] / seconds["shared"]
    print(machine())
    print(
        f"{N_PROMPTS} prompts, {N_SHARED} shared and {N_OWN} own tokens: "
        f"{ratio:.1f} times as fast with a shared beginning"
    )


if __name__ == "__main__":
    main()
