"""The labelled sources that the boxed classifiers are trained on.

Files are not part of the project. Each function takes the folder that holds them and gives a data
frame with ``text`` and ``label``, and what else there is to know of a row.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from splinellm.classifiers.classes import CLEAN, TOXIC
from splinellm.classifiers.templates import template_frame

JIGSAW_LABELS = ("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate")


def _read(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / name, keep_default_na=False)


def _named(positive: pd.Series) -> pd.Series:
    return positive.map({True: TOXIC, False: CLEAN})


def davidson(folder: Path) -> pd.DataFrame:
    """Tweets: offensive or hateful against neither."""
    rows = _read(folder, "davidson.csv")
    return rows.assign(label=_named(rows["label"] != "neither"))


def jigsaw(folder: Path) -> pd.DataFrame:
    """Wikipedia talk pages, with the six labels that each comment has."""
    rows = _read(folder, "jigsaw.csv")
    return rows.assign(label=_named((rows[list(JIGSAW_LABELS)] == 1).any(axis=1)))


def surge(folder: Path) -> pd.DataFrame:
    """Comments from several platforms, half of them toxic."""
    rows = _read(folder, "surge.csv")
    return rows.assign(label=_named(rows["label"] == "toxic"))


def wiki_detox(folder: Path) -> pd.DataFrame:
    """Wikipedia comments that test unintended bias."""
    rows = _read(folder, "wiki_detox.csv")
    return rows.assign(label=_named(rows["label"].astype(int) == 1))


def toxigen(folder: Path) -> pd.DataFrame:
    """Statements about groups of people, hateful and neutral."""
    rows = _read(folder, "toxigen_prompts.csv")
    return rows.assign(label=_named(rows["label"] == "hate"))


def toxic_spans(folder: Path) -> pd.DataFrame:
    """Posts that were chosen among toxic ones, with the characters that annotators marked."""
    return _read(folder, "toxic_spans.csv").assign(label=TOXIC)


def templates(_folder: Path) -> pd.DataFrame:
    """Sentences of our own: what the others have too little of, in both classes."""
    return template_frame()


def domains(folder: Path) -> pd.DataFrame:
    """Eight domains, about 800 texts each; ``label`` is the domain."""
    return _read(folder, "domains.csv")


TOXICITY_SOURCES: dict[str, Callable[[Path], pd.DataFrame]] = {
    "jigsaw": jigsaw,
    "davidson": davidson,
    "surge": surge,
    "wiki_detox": wiki_detox,
    "toxigen": toxigen,
    "toxic_spans": toxic_spans,
    "templates": templates,
}
"""Sources with the labels ``clean`` and ``toxic``."""

LICENCES = {
    "jigsaw": "Kaggle Jigsaw 2018 (data CC0, comment text CC BY-SA 3.0)",
    "davidson": "t-davidson/hate-speech-and-offensive-language (MIT)",
    "surge": "surge-ai/toxicity (MIT)",
    "wiki_detox": "conversationai/unintended-ml-bias-analysis (CC BY 4.0)",
    "toxigen": "microsoft/TOXIGEN prompts (MIT)",
    "toxic_spans": "ipavlopoulos/toxic_spans, SemEval-2021 task 5 (CC0)",
    "templates": "sentences of this project",
    "domains": "PubMedQA, legal case reports, patents, code, mathematics, instructions, fiction, "
    "talk pages (permissive or public domain; none stated for law)",
}
