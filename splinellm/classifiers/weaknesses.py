"""What the boxed classifiers are known to get wrong; goes into their cards.

The toxicity cases are those of ``examples/hard_cases.jsonl``, looked at one by one.
"""

from __future__ import annotations

WEAKNESSES: dict[str, tuple[str, ...]] = {
    "toxicity": (
        (
            "Negated insults count as insults: 'You are not stupid at all …' 0.88, 'I would never call "
            "anyone trash …' 0.68."
        ),
        (
            "Dialect: harmless African-American English is flagged ('He finna pull up with his bros …' "
            "0.85). One source (davidson) is known for that bias, and it was learnt."
        ),
        (
            "Rude words used as technical terms may be flagged (a commit message with 'dumb terminal' "
            "and 'damn' 0.56), and friendly swearing is close to it (0.49)."
        ),
        (
            "What has no rude word is mostly missed: a veiled threat 0.21, sarcasm 0.29, polite "
            "contempt 0.30."
        ),
        (
            "Features are means over tokens: one insult in a long clean text is missed (0.02). Texts "
            "are cut to 256 tokens; what follows is not read, and 'truncated' says so."
        ),
        "A one-word insult ('Idiot.') is missed (0.28): the first word is the attention sink.",
        (
            "English only. Trained on 2,000 to 4,000 rows a source, at other shares of toxic texts "
            "than in the wild: check the threshold on your own data."
        ),
    ),
    "toxicity-types": (
        (
            "One source, Wikipedia talk pages of about 2017, with every rare kind and few of the "
            "clean: probabilities are too high where toxicity is rarer."
        ),
        "95 threats in all: figures for 'threat' rest on 19 held-out rows.",
        "Everything that the card of 'toxicity' says of negation, quotation, dialect and length.",
    ),
    "domain": (
        (
            "Each domain comes from one or two collections, and these are told apart, too: law is "
            "court decisions, code is a few projects, fiction is two authors."
        ),
        "Instructions are short; length alone separates them (ROC-AUC 0.97).",
        (
            "Texts of other domains get one of the eight all the same; the probability does not say "
            "that none fits."
        ),
    ),
}
