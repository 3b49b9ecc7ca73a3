"""What pictures, pages and the terminal call the numbers that all of them draw."""

from __future__ import annotations

from splinellm.backbone.encoders import attends_both_ways


def place_of_tokens(model_type: str) -> str:
    """Name the place of a token: the length of its context, unless it sees what comes later.

    Parameters
    ----------
    model_type : str
        Architecture, as a table's provenance names it.
    """
    return "position of the token" if attends_both_ways(model_type) else "context length (tokens)"
