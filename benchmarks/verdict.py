"""Verdicts of the boxed classifiers against the paper's features computed the plain way.

Texts in, labels out, each classifier with the model that it reads. The plain way reads all layers
of SmolLM2-135M, one text after the other.
"""

from __future__ import annotations

from functools import partial

from splinellm import SplineExtractor
from splinellm.backbone.loading import load_backbone
from splinellm.bench.naive import NaiveExtractor
from splinellm.bench.timing import interleaved, machine, prompts_of
from splinellm.learn.artifact import boxed_names, load_classifier


def main() -> None:
    backbone = load_backbone("smollm2-135m")
    prompts = prompts_of(64, 2)
    classifiers = {name: load_classifier(name) for name in boxed_names()}
    tasks = {name: partial(one.predict, prompts) for name, one in classifiers.items()}
    tokenized, _ = SplineExtractor(backbone).tokenize(prompts)
    ids = [prompt.ids for prompt in tokenized.values()]
    naive = NaiveExtractor(backbone)
    seconds = interleaved(tasks | {"naive": lambda: naive.extract(ids)}, repeats=3)
    print(machine())
    print(f"{len(prompts)} prompts of {sum(map(len, ids)) / len(ids):.0f} tokens of SmolLM2")
    for name, classifier in classifiers.items():
        source = classifier.card.provenance
        n_layers = len(source.layers)
        told = f"{name} ({n_layers} {'layer' if n_layers == 1 else 'layers'} of {source.model})"
        ratio = seconds["naive"] / seconds[name]
        print(f"{told}: {len(prompts) / seconds[name]:.1f} prompts/s, {ratio:.1f} x the plain way")


if __name__ == "__main__":
    main()
