"""Features of all prefixes of a text: against those of one prompt, and against a pass for each."""

from __future__ import annotations

from splinellm import SplineExtractor
from splinellm.bench.timing import interleaved, machine, prompts_of

N_TOKENS = 512
EVERY = 64
"""A pass per prefix is timed for every 64th of them; the others take as long on average."""


def main() -> None:
    extractor = SplineExtractor.from_pretrained("smollm2-135m")
    ids = extractor.tokenize(prompts_of(1, 60))[0][0].ids[:N_TOKENS]
    some = [ids[:k] for k in range(EVERY // 2, N_TOKENS, EVERY)]

    def one_by_one() -> None:
        for prefix in some:
            extractor.extract([prefix])

    tasks = {
        "prompt": lambda: extractor.extract([ids]),
        "prefix": lambda: extractor.extract([ids], granularity="prefix"),
        "passes": one_by_one,
    }
    seconds = interleaved(tasks, repeats=5)
    passes = seconds["passes"] * N_TOKENS / len(some)
    print(machine())
    print(f"all {N_TOKENS} prefixes cost {seconds['prefix'] / seconds['prompt']:.2f} prompts,")
    print(f"and are {passes / seconds['prefix']:.0f} times as fast as a pass for each")


if __name__ == "__main__":
    main()
