"""Make the boxed classifiers from their sources: ``make classifiers DATA=folder``.

Features of every source are extracted once into a work folder (a run that stopped goes on there).
What to use of them was chosen by leaving out whole sources; ``--evaluate`` prints that comparison.
"""

from __future__ import annotations

import argparse
import hashlib
import tomllib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from splinellm.backbone.builtin import DEFAULT_MODEL
from splinellm.backbone.loading import Backbone, load_backbone
from splinellm.classifiers import sources
from splinellm.classifiers.sources import JIGSAW_LABELS, LICENCES, TOXICITY_SOURCES
from splinellm.extraction import SplineExtractor
from splinellm.extraction.hidden_states import mean_hidden_states
from splinellm.learn.artifact import BOXED_FOLDER, save_classifier
from splinellm.learn.evaluation import evaluate
from splinellm.learn.labels import Labels
from splinellm.learn.splits import leave_one_out, merged_groups, near_duplicates
from splinellm.learn.training import train
from splinellm.normalisation import VERSION, normalise
from splinellm.table import FeatureTable

MAX_TOKENS = 256
LAYERS = {"toxicity": 6, "toxicity-fast": 4, "toxicity-types": 6, "domain": 4}
"""First layers that each classifier reads; the forward pass stops after them."""

BLOCKS = "blocks:768"
"""Two hyperplanes a block: six layers of these tell as much as twenty of 32 blocks."""
WEAKNESSES: dict[str, list[str]] = tomllib.loads(
    Path(__file__).with_name("weaknesses.toml").read_text(encoding="utf-8")
)
JUDGED = ("jigsaw", "davidson", "surge", "wiki_detox")
"""Sources that are left out in turn; the others have one class or are too narrow to judge by."""


class Workshop:
    """Sources with their features, extracted when first asked for, the model's first layers alone.

    Parameters
    ----------
    data : Path
        Folder of the source files.
    work : Path
        Folder for the features.
    """

    def __init__(self, data: Path, work: Path) -> None:
        self._data = data
        self._work = work
        self._backbone: Backbone | None = None
        work.mkdir(parents=True, exist_ok=True)

    def load(
        self, name: str, read: Callable[[Path], pd.DataFrame]
    ) -> tuple[pd.DataFrame, FeatureTable]:
        """Rows of a source, their texts normalised, with the features of these."""
        rows = read(self._data).sample(frac=1, random_state=1).reset_index(drop=True)
        rows["text"] = [normalise(text).text for text in rows["text"]]
        return rows, self._features(name, list(rows["text"]), BLOCKS, range(max(LAYERS.values())))

    def seven(self, name: str, texts: Sequence[str]) -> FeatureTable:
        """The paper's seven of all layers of a source's texts, for the comparison."""
        return self._features(f"{name}.seven", texts, "spline", None)

    def hidden(self, name: str, texts: Sequence[str]) -> np.ndarray:
        """Mean hidden states of a source's texts, for the baseline."""
        path = self._work / f"{name}.hidden.npy"
        if not path.is_file():
            states = mean_hidden_states(self._extractor("spline", None), texts)
            with path.open("wb") as file:
                np.save(file, states)
        return np.asarray(np.load(path))

    def _features(
        self, name: str, texts: Sequence[str], features: str, layers: Iterable[int] | None
    ) -> FeatureTable:
        path = self._work / f"{name}.parquet"
        column = pa.array(texts)
        if not path.is_file():
            table = self._extractor(features, layers).extract(texts).to_arrow()
            partial = path.with_suffix(".partial")
            pa.parquet.write_table(table.append_column("text", column), partial)
            partial.replace(path)
        kept = pa.parquet.read_table(path)
        if not kept["text"].combine_chunks().equals(column):
            raise SystemExit(f"{path} was made from other texts: delete it")
        return FeatureTable.from_arrow(kept)

    def _extractor(self, features: str, layers: Iterable[int] | None) -> SplineExtractor:
        if self._backbone is None:
            self._backbone = load_backbone(DEFAULT_MODEL)
        return SplineExtractor(
            self._backbone, layers=layers, features=features, max_tokens=MAX_TOKENS
        )


def toxicity_rows(shop: Workshop) -> tuple[pd.DataFrame, FeatureTable]:
    """All toxicity sources, and clean texts of other domains against the shortcut of style."""
    frames, tables = [], []
    for name, read in TOXICITY_SOURCES.items():
        rows, table = shop.load(name, read)
        frames.append(rows[["text", "label"]].assign(source=name))
        tables.append(table)
    rows, table = shop.load("domains", sources.domains)
    clean = rows["label"] != "wiki_talk"  # those come from jigsaw
    frames.append(rows.loc[clean, ["text"]].assign(label=sources.CLEAN, source="domains"))
    tables.append(table[np.flatnonzero(clean)])
    return pd.concat(frames, ignore_index=True), FeatureTable.concatenate(tables)


def first_layers(table: FeatureTable, classifier: str) -> FeatureTable:
    """The layers that a classifier reads."""
    return table.select(range(LAYERS[classifier]), None)


def describe(rows: pd.DataFrame, names: Sequence[str]) -> dict[str, Any]:
    """Summarise training data for a card."""
    digest = hashlib.sha256("\0".join(rows["text"]).encode()).hexdigest()
    return {
        "name": ", ".join(names),
        "rows": len(rows),
        "sha256": digest,
        "licences": "; ".join(LICENCES[name] for name in names),
    }


def judge(shop: Workshop) -> dict[str, dict[str, float]]:
    """ROC-AUC on each source left out, of the boxed features and of what they compete with."""
    rows, table = toxicity_rows(shop)
    labels = Labels.from_columns({"label": list(rows["label"])})
    names = [*TOXICITY_SOURCES, "domains"]
    hidden = np.concatenate(
        [shop.hidden(name, list(rows.loc[rows["source"] == name, "text"])) for name in names]
    )
    seven = FeatureTable.concatenate(
        [shop.seven(name, list(rows.loc[rows["source"] == name, "text"])) for name in names]
    )
    baselines: dict[str, Any] = {"texts": list(rows["text"]), "hidden": hidden}
    inputs: dict[str, tuple[FeatureTable, dict[str, Any]]] = {
        "toxicity": (first_layers(table, "toxicity"), baselines),
        "toxicity-fast": (first_layers(table, "toxicity-fast"), {}),
        "the seven": (seven, {}),
    }
    groups = merged_groups([list(rows["source"])])
    found: dict[str, dict[str, float]] = {}
    for source, split in leave_one_out(list(rows["source"])).items():
        if source not in JUDGED:
            continue
        row = found.setdefault(source, {})
        for title, (part, given) in inputs.items():
            for score in evaluate(
                part, labels, [split], ablations=False, tuning_groups=groups, **given
            ):
                row[title if score.section == "features" else score.item] = score.mean
    columns = next(iter(found.values()))
    found["mean"] = {c: float(np.mean([row[c] for row in found.values()])) for c in columns}
    return found


def build_toxicity(shop: Workshop, output: Path) -> None:
    """Binary, trained across all sources: the accurate one and the fast one."""
    rows, table = toxicity_rows(shop)
    left_out = {"measured on": "each source in turn, trained on all others", **judge(shop)}
    for name in ("toxicity", "toxicity-fast"):
        classifier = train(
            first_layers(table, name),
            Labels.from_columns({"label": list(rows["label"])}),
            name=name,
            groups=merged_groups([near_duplicates(list(rows["text"]))]),
            tuning_groups=merged_groups([list(rows["source"])]),
            data=describe(rows, [*TOXICITY_SOURCES, "domains"]),
            weaknesses=WEAKNESSES[name],
            normalisation=VERSION,
        )
        classifier.card.metrics["ROC-AUC on sources left out"] = left_out
        save_classifier(classifier, output / name)


def build_toxicity_types(shop: Workshop, output: Path) -> None:
    """Jigsaw's six labels."""
    rows, table = shop.load("jigsaw", sources.jigsaw)
    classifier = train(
        first_layers(table, "toxicity-types"),
        Labels.from_columns({name: list(rows[name]) for name in JIGSAW_LABELS}),
        name="toxicity-types",
        groups=merged_groups([near_duplicates(list(rows["text"]))]),
        data=describe(rows, ["jigsaw"]),
        weaknesses=WEAKNESSES["toxicity-types"],
        normalisation=VERSION,
    )
    save_classifier(classifier, output / "toxicity-types")


def build_domain(shop: Workshop, output: Path) -> None:
    """Eight domains."""
    rows, table = shop.load("domains", sources.domains)
    classifier = train(
        first_layers(table, "domain"),
        Labels.from_columns({"label": list(rows["label"])}),
        name="domain",
        groups=merged_groups([near_duplicates(list(rows["text"]))]),
        data=describe(rows, ["domains"]),
        weaknesses=WEAKNESSES["domain"],
        normalisation=VERSION,
    )
    save_classifier(classifier, output / "domain")


BUILDERS = {
    "toxicity": build_toxicity,
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
    parser.add_argument("--evaluate", action="store_true", help="only judge by sources left out")
    options = parser.parse_args()
    shop = Workshop(options.data, options.work)
    if options.evaluate:
        for source, row in judge(shop).items():
            figures = "  ".join(f"{title} {100 * value:.1f}" for title, value in row.items())
            print(f"{source:<12} {figures}")  # noqa: T201
        return
    for name in options.only or BUILDERS:
        BUILDERS[name](shop, options.output)
        print(f"{name} written to {options.output / name}")  # noqa: T201


if __name__ == "__main__":
    main()
