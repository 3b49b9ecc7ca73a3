"""Verdicts of the boxed classifiers against the paper's features computed the plain way."""

from __future__ import annotations

from splinellm import SplineExtractor
from splinellm.backbone.loading import load_backbone
from splinellm.bench.naive import NaiveExtractor
from splinellm.bench.timing import interleaved, machine, prompts_of
from splinellm.learn.artifact import boxed_names, load_classifier
from splinellm.plan import Plan


def main() -> None:
    backbone = load_backbone("smollm2-135m")
    prompts = prompts_of(64, 2)
    classifiers = {name: load_classifier(name) for name in boxed_names()}
    tasks = {}
    for name, classifier in classifiers.items():
        extractor = SplineExtractor(backbone, **Plan.of(classifier.card.provenance).settings())
        tasks[name] = lambda e=extractor, c=classifier: (
            c.predict_table(e.extract(prompts)).predicted
        )
    ids = [prompt.ids for prompt in extractor.tokenize(prompts)[0].values()]
    naive = NaiveExtractor(backbone)
    seconds = interleaved(tasks | {"naive": lambda: naive.extract(ids)}, repeats=3)
    print(machine())
    for name, classifier in classifiers.items():
        n_layers = len(classifier.card.provenance.layers)
        ratio = seconds["naive"] / seconds[name]
        print(f"{name} ({n_layers} layers): {ratio:.1f} times as fast as the plain features")


if __name__ == "__main__":
    main()
