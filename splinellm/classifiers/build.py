"""Make the boxed classifiers from their sources: ``make classifiers DATA=folder``.

Every text is read once into a work folder (a run that stopped goes on there). What to use was
chosen by leaving out whole sources; ``--evaluate`` prints that comparison.
"""

from __future__ import annotations

import argparse
import hashlib
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from splinellm.classifiers.classes import CLEAN
from splinellm.classifiers.hard_cases import judge_hard_cases
from splinellm.classifiers.judging import judge_of
from splinellm.classifiers.leaving_out import MEAN_OF
from splinellm.classifiers.lessons import Lesson, is_aside, lesson_of
from splinellm.classifiers.marked_words import marked_figures, with_marked_words
from splinellm.classifiers.rows import Rows, domain_rows, jigsaw_types, marked_rows, toxicity_rows
from splinellm.classifiers.short_domains import domain_trials
from splinellm.classifiers.sources import LICENCES
from splinellm.classifiers.trial_figures import (
    disguise_figures,
    false_alarm_figures,
    long_text_figures,
)
from splinellm.classifiers.trials import KEPT_ASIDE, long_texts
from splinellm.classifiers.workshop import Reading, Workshop
from splinellm.learn.artifact import BOXED_FOLDER, load_classifier, save_classifier
from splinellm.learn.composing import COMPOSED
from splinellm.learn.identity_terms import identity_members
from splinellm.learn.labels import Labels
from splinellm.learn.out_of_fold import OutOfFold
from splinellm.learn.pooled import Pooled
from splinellm.learn.pooled_material import PooledSettings
from splinellm.learn.pooled_training import train_windows
from splinellm.learn.pooling import Pooling
from splinellm.learn.splits import merged_groups, near_duplicates
from splinellm.learn.windows import Windows
from splinellm.normalisation import VERSION
from splinellm.provenance import Provenance

ENCODER = Reading("minilm-l6", (1, 5), "blocks:1536")
"""Signs of every hyperplane of two of six layers: near the words, and of what they say together."""

DECODER = Reading("smollm2-135m", (6, 7), "blocks:384")
"""For what watches this model while it writes: two layers, four hyperplanes a block."""

FAST_LAYERS = (1,)
"""Of what the encoder reads: the forward pass ends in the second of six layers."""

DOMAIN = Reading("minilm-l6", (4,), "blocks:1536")
"""The fifth of six layers."""

MARKED = ("toxicity", "toxicity-fast", "toxicity-types")
"""Classifiers that are taught which words people marked."""

DECODER_SHARE = 4
"""One of so many rows is read by the decoder, which is slower."""

GEOMETRY = PooledSettings(strengths=(0.01,))
NEAR_WORDS = PooledSettings(hybrid=True, strengths=(0.01,), shares=(0.7,), peaks=(0.5,))
"""For the second layer alone, and for what words tell best: more of the lexicon."""

HYBRID = replace(NEAR_WORDS, shares=(0.4,), n_components=600)
"""For both layers: twice the components tell more of texts inside longer ones, and of statements
about groups; 1,000 tell less of sources that were left out."""

MEAN = PooledSettings(Pooling("mean"), augment=False, strengths=(0.01,))

ABSTAIN = {"toxicity": 0.1, "toxicity-fast": 0.2}
"""Share of rows that a classifier calls uncertain: those of the fast one may go to another."""

LONG_CLEAN = ("jigsaw", "domains")
"""Sources of the clean texts that short toxic ones are put into."""

N_LONG = 60
N_DISGUISED = 300
"""Texts of each length, and texts that are disguised, of the trials in cards."""

WEAKNESSES: dict[str, list[str]] = tomllib.loads(
    Path(__file__).with_name("weaknesses.toml").read_text(encoding="utf-8")
)


@dataclass(frozen=True)
class Variant:
    """One of the boxed classifiers that tell toxic from clean.

    Parameters
    ----------
    reading : Reading
        What it reads.
    settings : PooledSettings
        How it is trained.
    layers : tuple of int, optional
        Those of what is read that it uses; all of them without.
    every : int
        One of so many rows is used.
    composed : bool
        Whether it learns from short texts inside long ones, too.
    """

    reading: Reading
    settings: PooledSettings
    layers: tuple[int, ...] | None = None
    every: int = 1
    composed: bool = True


VARIANTS = {
    "toxicity": Variant(ENCODER, HYBRID),
    "toxicity-geometry": Variant(ENCODER, GEOMETRY),
    "toxicity-fast": Variant(ENCODER, NEAR_WORDS, FAST_LAYERS),
    "toxicity-smollm2": Variant(DECODER, GEOMETRY, every=DECODER_SHARE, composed=False),
}


def toxicity_lesson(shop: Workshop, everything: Rows, variant: Variant) -> Lesson:
    """What a variant learns from, of all rows."""
    rows = everything[np.arange(0, len(everything), variant.every)]
    return lesson_of(shop, variant.reading, rows, layers=variant.layers, composed=variant.composed)


def judge(shop: Workshop, data: Path, only: str | None = None) -> dict[str, Any]:
    """ROC-AUC on each source left out, by variant and channel."""
    everything = toxicity_rows(data)
    return {
        name: toxicity_lesson(shop, everything, variant).judged(variant.settings)
        for name, variant in VARIANTS.items()
        if only in (None, name)
    }


def build_toxicity(shop: Workshop, data: Path, name: str) -> Pooled:
    """Binary, trained across all sources but for the tenth that is kept for trials."""
    variant = VARIANTS[name]
    everything = toxicity_rows(data)
    lesson = toxicity_lesson(shop, everything, variant)
    left_out = lesson.judged(variant.settings)
    learned = lesson.to_learn()
    rows = learned.rows
    classifier = trained(
        learned.windows,
        rows.texts,
        rows.labels,
        learned.source,
        name=name,
        settings=variant.settings,
        marks=rows.marks if variant.settings.hybrid else None,
        weights=rows.weights,
        groups=learned.groups,
        measured=learned.own,
        tuning_groups=merged_groups([list(rows.source)]),
        abstain=ABSTAIN.get(name),
        members=identity_members(rows.texts),
        data=described(learned),
    )
    classifier = marked_anew(classifier, marked_rows(data))
    aside = everything[np.flatnonzero(is_aside(everything))]
    classifier.card.metrics.update(trials(classifier, aside))
    classifier.card.metrics["ROC-AUC on sources left out"] = {
        "measured on": "each source in turn, trained on all others",
        **left_out,
        "mean": _means(left_out),
    }
    return classifier


def trained(
    windows: Windows, texts: Sequence[str], labels: Labels, source: Provenance, **told: Any
) -> Pooled:
    """Train one of the boxed classifiers, and make its card.

    Rows are cut at 256 tokens: of longer texts, which it reads whole, the trials tell.
    """
    return train_windows(
        windows,
        texts,
        labels,
        source,
        weaknesses=WEAKNESSES[told["name"]],
        normalisation=VERSION,
        tried_longer=True,
        **told,
    )


def marked_anew(classifier: Pooled, rows: Rows) -> Pooled:
    """Teach a classifier of those that tell spans which words people marked, and measure it."""
    if classifier.card.name not in MARKED:
        return classifier
    classifier = with_marked_words(classifier, rows)
    classifier.card.metrics.update(marked_figures(classifier, rows))
    return classifier


def trials(classifier: Pooled, aside: Rows) -> dict[str, Any]:
    """Figures of hard cases, of long texts and of disguises; from rows that were kept aside."""
    judge = judge_of(classifier)
    texts = np.array(aside.texts, object)
    clean = aside.label == CLEAN
    origins = {name: texts[clean & (aside.source == name)] for name in LONG_CLEAN}
    judged_by = np.isin(aside.source, MEAN_OF)
    long = long_texts(list(texts[~clean & judged_by]), origins, n=N_LONG)
    return {
        "hard cases": judge_hard_cases(judge),
        "long texts": long_text_figures(judge, long),
        "disguise": disguise_figures(judge, texts[~clean & judged_by][:N_DISGUISED]),
        "false alarms": false_alarm_figures(judge, texts[clean & judged_by][:N_DISGUISED]),
    }


def build_toxicity_types(shop: Workshop, data: Path, name: str) -> Pooled:
    """Jigsaw's six labels."""
    rows, labels = jigsaw_types(data)
    lesson = lesson_of(shop, ENCODER, rows, keep_aside=False)
    classifier = trained(
        lesson.windows,
        lesson.rows.texts,
        labels[lesson.made_of],
        lesson.source,
        name=name,
        settings=NEAR_WORDS,
        weights=lesson.rows.weights,
        groups=lesson.groups,
        measured=lesson.own,
        data=described(lesson),
    )
    return marked_anew(classifier, marked_rows(data))


def build_domain(shop: Workshop, data: Path, name: str) -> Pooled:
    """Eight domains, and texts of none of them; of whole texts and of short pieces."""
    rows = domain_rows(data)
    windows, source = shop.windows(DOMAIN, rows.texts)
    kept = OutOfFold(len(rows))
    classifier = trained(
        windows,
        rows.texts,
        rows.labels,
        source,
        name=name,
        settings=MEAN,
        weights=rows.weights,
        groups=groups_of(rows),
        data=describe(rows),
        kept=kept,
    )
    classifier.card.metrics.update(domain_trials(classifier, rows, kept))
    return classifier


def groups_of(rows: Rows) -> np.ndarray | None:
    """Rows that say nearly the same, and pieces with the text that they were cut from."""
    made_of = [] if rows.origins is None else [rows.origins]
    return merged_groups([near_duplicates(rows.texts), *made_of])


def describe(rows: Rows) -> dict[str, Any]:
    """Summarise training data for a card."""
    names = list(dict.fromkeys(rows.source.tolist()))
    digest = hashlib.sha256("\0".join(rows.texts).encode()).hexdigest()
    return {
        "name": ", ".join(names),
        "rows": len(rows),
        "sha256": digest,
        "licences": "; ".join(LICENCES[name] for name in names),
        "kept aside": KEPT_ASIDE,
    }


def described(lesson: Lesson) -> dict[str, Any]:
    """Summarise texts as they are, and count those that hold others."""
    composed = int(np.sum(~lesson.own))
    more = {COMPOSED: composed} if composed else {}
    return {**describe(lesson.rows[np.flatnonzero(lesson.own)]), **more}


def _means(found: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    channels = next(iter(found.values()))
    return {c: float(np.mean([found[source][c] for source in MEAN_OF])) for c in channels}


BUILDERS: dict[str, Callable[[Workshop, Path, str], Pooled]] = {
    "toxicity": build_toxicity,
    "toxicity-geometry": build_toxicity,
    "toxicity-fast": build_toxicity,
    "toxicity-smollm2": build_toxicity,
    "toxicity-types": build_toxicity_types,
    "domain": build_domain,
}


def main() -> None:
    """Run the recipe."""
    parser = argparse.ArgumentParser(description="Make the boxed classifiers.")
    parser.add_argument("data", type=Path, help="folder with the source files")
    parser.add_argument("--work", type=Path, default=Path("build/classifiers"))
    parser.add_argument("--output", type=Path, default=BOXED_FOLDER)
    parser.add_argument("--only", choices=sorted(BUILDERS), action="append")
    parser.add_argument(
        "--only-spans", action="store_true", help="teach those in the output folder marked words"
    )
    parser.add_argument("--evaluate", action="store_true", help="only judge by sources left out")
    options = parser.parse_args()
    shop = Workshop(options.work)
    names = options.only or list(BUILDERS)
    for name in names:
        if options.only_spans:
            if name in MARKED:
                boxed = load_classifier(options.output / name)
                assert isinstance(boxed, Pooled)  # noqa: S101 (the recipe makes no other)
                boxed = marked_anew(boxed, marked_rows(options.data))
                save_classifier(boxed, options.output / name)
            continue
        if options.evaluate:
            for variant, found in judge(shop, options.data, name).items():
                for source, row in {**found, "mean of the first four": _means(found)}.items():
                    figures = "  ".join(f"{c} {100 * value:.1f}" for c, value in row.items())
                    print(f"{variant:<18} {source:<22} {figures}", flush=True)  # noqa: T201
            continue
        made = BUILDERS[name](shop, options.data, name)
        save_classifier(made, options.output / name)
        print(f"{name} written to {options.output / name}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
