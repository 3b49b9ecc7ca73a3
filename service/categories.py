"""Names of other services' categories, and the boxed classifiers' labels that mean the same."""

from __future__ import annotations

from collections.abc import Mapping

TOXIC = "toxic"
"""The label of what is harmful, of whatever kind."""
LABEL_OF_ATTRIBUTE: Mapping[str, str] = {
    "TOXICITY": TOXIC,
    "SEVERE_TOXICITY": "severe_toxic",
    "IDENTITY_ATTACK": "identity_hate",
    "INSULT": "insult",
    "PROFANITY": "obscene",
    "THREAT": "threat",
}
"""Of Perspective's attributes."""
OPENAI_CATEGORIES = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)
"""Keys that OpenAI's clients expect in every map."""
CATEGORY_OF_LABEL: Mapping[str, str] = {
    "insult": "harassment",
    "threat": "harassment/threatening",
    "identity_hate": "hate",
}
"""Jigsaw's labels that mean the same as a category; the other categories stay unscored."""
HARMFUL = frozenset([TOXIC, *LABEL_OF_ATTRIBUTE.values(), *CATEGORY_OF_LABEL, *OPENAI_CATEGORIES])
"""Labels that are known to stand for harm; of exclusive classes, others may stand for none."""
