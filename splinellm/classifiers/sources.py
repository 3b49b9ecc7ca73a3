"""The labelled sources that the boxed classifiers are trained on.

Files are not part of the project. Each function takes the folder that holds them and gives a data
frame with ``text`` and the labels; samples are fixed by their seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

JIGSAW_LABELS = ("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate")
TOXIC, CLEAN = "toxic", "clean"


def _read(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / name, keep_default_na=False)


def _named(positive: pd.Series) -> pd.Series:
    return positive.map({True: TOXIC, False: CLEAN})


def davidson(folder: Path) -> pd.DataFrame:
    """Tweets: offensive or hateful (2,000) against neither (2,000)."""
    rows = _read(folder, "davidson.csv")
    neither = rows["label"] == "neither"
    rows = pd.concat(
        [rows[~neither].sample(2000, random_state=0), rows[neither].sample(2000, random_state=0)]
    )
    return rows.assign(label=_named(rows["label"] != "neither"))


def jigsaw(folder: Path) -> pd.DataFrame:
    """Wikipedia talk pages: every rare kind of toxicity, 1,000 other toxic, 2,300 clean."""
    rows = _read(folder, "jigsaw.csv")
    rare = rows[(rows[["threat", "severe_toxic", "identity_hate"]] == 1).any(axis=1)]
    rest = rows.drop(rare.index)
    toxic = rest[rest["toxic"] == 1].sample(1000, random_state=0)
    clean = rest[rest["toxic"] == 0].sample(2300, random_state=0)
    rows = pd.concat([rare, toxic, clean])
    return rows.assign(label=_named(rows["toxic"] == 1))


def surge(folder: Path) -> pd.DataFrame:
    """Comments from several platforms, half of them toxic."""
    rows = _read(folder, "surge.csv")
    return rows.assign(label=_named(rows["label"] == "toxic"))


def wiki_detox(folder: Path) -> pd.DataFrame:
    """Wikipedia comments that test unintended bias: all toxic, 559 of the others."""
    rows = _read(folder, "wiki_detox.csv")
    toxic = rows[rows["label"].astype(int) == 1]
    rows = pd.concat([toxic, rows.drop(toxic.index).sample(559, random_state=0)])
    return rows.assign(label=_named(rows["label"].astype(int) == 1))


def toxigen(folder: Path) -> pd.DataFrame:
    """Statements about groups of people, hateful and neutral."""
    rows = _read(folder, "toxigen_prompts.csv")
    return rows.assign(label=_named(rows["label"] == "hate"))


def toxic_spans(folder: Path) -> pd.DataFrame:
    """Posts in which annotators marked a toxic span (of a sample of 600)."""
    rows = _read(folder, "toxic_spans.csv").sample(600, random_state=0)
    # No span is not "clean" here: these posts were chosen among toxic ones.
    rows = rows[rows["spans"] != "[]"]
    return rows.assign(label=TOXIC)


def domains(folder: Path) -> pd.DataFrame:
    """Eight domains, 100 texts each; ``label`` is the domain."""
    rows = _read(folder, "domains.csv")
    samples = [part.sample(100, random_state=0) for _, part in rows.groupby("label")]
    return pd.concat(samples)


TOXICITY_SOURCES: dict[str, Callable[[Path], pd.DataFrame]] = {
    "jigsaw": jigsaw,
    "davidson": davidson,
    "surge": surge,
    "wiki_detox": wiki_detox,
    "toxigen": toxigen,
    "toxic_spans": toxic_spans,
}
"""Sources with the labels ``clean`` and ``toxic``."""

LICENCES = {
    "jigsaw": "Kaggle Jigsaw 2018 (data CC0, comment text CC BY-SA 3.0)",
    "davidson": "t-davidson/hate-speech-and-offensive-language (MIT)",
    "surge": "surge-ai/toxicity (MIT)",
    "wiki_detox": "conversationai/unintended-ml-bias-analysis (CC BY 4.0)",
    "toxigen": "microsoft/TOXIGEN prompts (MIT)",
    "toxic_spans": "ipavlopoulos/toxic_spans, SemEval-2021 task 5 (CC0)",
    "domains": "PubMedQA, legal case reports, patents, code, mathematics, instructions, fiction, "
    "talk pages (permissive or public domain; none stated for law)",
}
