"""What ``train --pool --compose`` gives on a few thousand rows: found in long texts, and alone.

Run ``python benchmarks/composing.py DATA [--rows N] [--layers 1,5] [--seeds 0 1]``. DATA is the
folder of the sources that ``make classifiers`` reads. For each seed two classifiers are trained on
the same comments of jigsaw with the settings of the command in docs/classifiers.md, one of them
with ``--compose``. All are tried on rows that a hash keeps aside: on short toxic comments inside
long clean texts, and on comments as they are.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from peers import Rows, read
from sklearn.metrics import roc_auc_score

from splinellm import SplineExtractor
from splinellm.classifiers.classes import CLEAN, TOXIC
from splinellm.classifiers.judging import Judge
from splinellm.classifiers.trial_figures import long_text_figures
from splinellm.classifiers.trials import kept_aside, long_texts
from splinellm.learn.composing import COMPOSED, Composition
from splinellm.learn.labels import Labels
from splinellm.learn.metrics import recall_at_fpr
from splinellm.learn.pooled import Judged, Pooled
from splinellm.learn.pooled_training import PooledSettings, train_windows
from splinellm.learn.pooling import Pooling
from splinellm.learn.splits import merged_groups, near_duplicates
from splinellm.learn.token_reading import TokenRows, read_tokens
from splinellm.learn.windows import read_windows
from splinellm.normalisation import VERSION, normalise

FALSE_ALARMS = 0.01


def trained(sample: Rows, reader: SplineExtractor, name: str, *, hybrid: bool) -> list[Pooled]:
    """Train without composed texts and with them; every text is read once for both."""
    texts = [normalise(text).text for text in sample.texts]
    labels = Labels.from_columns({"label": np.where(sample.labels, TOXIC, CLEAN).tolist()})
    settings = PooledSettings(Pooling(), hybrid=hybrid)
    groups = merged_groups([near_duplicates(texts)])
    composition = Composition.of(texts, labels, groups=groups, seed=settings.seed)
    windows = read_windows(reader, [*texts, *composition.composed.texts], settings.pooling)
    told = {"groups": groups}
    sides = {
        f"{name} without": (windows[np.arange(len(texts))], texts, labels, told),
        f"{name} --compose": composition.beside(windows, texts, labels, told),
    }
    source = reader.provenance_at("token")
    return [
        train_windows(*rows, source, name=side, settings=settings, normalisation=VERSION, **more)
        for side, (*rows, more) in sides.items()
    ]


def scores_of(
    classifiers: Sequence[Pooled], reader: SplineExtractor, texts: Sequence[str]
) -> np.ndarray:
    """Logits of texts of any length, shape (classifiers, texts); each text is read once."""
    found = np.empty((len(classifiers), len(texts)))
    for position, rows in read_tokens(
        reader,
        classifiers[0].card.as_read(texts),
        lambda table: np.hstack([c.scorer.logits(c.columns_of(table)) for c in classifiers]),
        overflow="windows",
        overlap=classifiers[0].overlap,
    ):
        assert isinstance(rows, TokenRows)
        for i, classifier in enumerate(classifiers):
            judged = classifier.judged(
                replace(rows, values=rows.values[:, i : i + 1]), texts[position]
            )
            assert isinstance(judged, Judged)
            found[i, position] = judged.logits[0]
    return found


def figures(truth: np.ndarray, scores: np.ndarray) -> str:
    """Two figures of scores."""
    area, recall = roc_auc_score(truth, scores), recall_at_fpr(truth, scores, FALSE_ALARMS)
    return f"ROC-AUC {100 * area:.1f}, {100 * recall:.1f} % found at {FALSE_ALARMS:.0%}"


def main() -> None:
    """Print figures of each classifier."""
    parser = argparse.ArgumentParser(description="What composed texts give.")
    parser.add_argument("data", type=Path)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--layers", default="1,5")
    parser.add_argument("--hybrid", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--each", type=int, default=60, help="long clean texts of each length")
    parser.add_argument("--alone", type=int, default=1000, help="comments as they are")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the rows")
    options = parser.parse_args()
    reader = SplineExtractor.from_pretrained(
        "minilm-l6", layers=options.layers, features="blocks:1536", max_tokens=256
    )
    rows = read(options.data)
    aside, of_jigsaw = kept_aside(rows.texts), rows.sources == "jigsaw"
    made: list[Pooled] = []
    for seed in options.seeds:
        begin = time.perf_counter()
        sample = rows.where(~aside & of_jigsaw).sample(options.rows, seed)
        made += trained(sample, reader, f"sample {seed}", hybrid=options.hybrid)
        print(
            f"sample {seed}: {len(sample.texts)} comments, {sample.labels.sum()} toxic; "
            f"{made[-1].card.data[COMPOSED]} composed; {time.perf_counter() - begin:.0f} s",
            flush=True,
        )
    clean = aside & (rows.labels == 0)
    in_domains = np.array([name.startswith("domains") for name in rows.sources.tolist()])
    origins = {
        "talk pages": rows.where(clean & of_jigsaw).texts,
        "prose and code": rows.where(clean & in_domains).texts,
    }
    toxic = rows.where(aside & of_jigsaw & (rows.labels == 1)).texts
    long = long_texts(toxic, origins, n=options.each)
    alone = rows.where(aside & of_jigsaw).sample(options.alone, 0)
    texts = [one.text for one in long]
    scores = scores_of(made, reader, [*texts, *alone.texts])
    holds_one = np.array([one.place is not None for one in long])
    of_origin = np.array([one.origin for one in long])
    for classifier, found in zip(made, scores, strict=True):
        by_text = dict(zip(texts, found.tolist(), strict=False))
        judge = Judge("", lambda asked, known=by_text: np.array([known[text] for text in asked]))
        table = long_text_figures(judge, long)
        recalls = [f"{k} {100 * v['all']:.0f} %" for k, v in table.items() if isinstance(v, dict)]
        print(f"{classifier.card.name}")
        print(f"  {len(long)} long texts: {figures(holds_one, found[: len(long)])}")
        for origin in origins:
            among = of_origin == origin
            print(f"    in {origin}: {figures(holds_one[among], found[: len(long)][among])}")
        print(f"    recall: {', '.join(recalls)}")
        print(f"  {len(alone.texts)} comments alone: {figures(alone.labels, found[len(long) :])}")


if __name__ == "__main__":
    main()
