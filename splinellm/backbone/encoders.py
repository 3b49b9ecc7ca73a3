"""Which architectures are encoders: asked of tables, too, by who has no need of torch."""

from __future__ import annotations

ENCODERS = frozenset(
    {
        "bert",
        "deberta-v2",
        "distilbert",
        "electra",
        "modernbert",
        "mpnet",
        "roberta",
        "xlm-roberta",
    }
)
"""By transformers' ``model_type``; the same as in :mod:`splinellm.backbone.architectures`."""


def attends_both_ways(model_type: str) -> bool:
    """Whether tokens of an architecture, as a table's provenance names it, see what comes later."""
    return model_type in ENCODERS
