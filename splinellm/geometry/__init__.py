"""The quantities of arXiv 2312.01648 as pure functions on tensors: no model, no I/O.

Read :mod:`splinellm.geometry.partition` for the spline features of an MLP,
:mod:`splinellm.geometry.moments` for their statistics over tokens and
:mod:`splinellm.geometry.attention` for the intrinsic dimension of the attention embeddings.

Shape letters, everywhere the same: B prompts in a batch, T tokens, H heads, K hyperplanes
(gate units) of a layer, D size of a head.
"""

from splinellm.geometry.attention import (
    Attended,
    DimensionRule,
    intrinsic_dimension,
    last_row_scores,
    of_every_token,
    scores_of_tokens,
)
from splinellm.geometry.moments import Moments, running_summary
from splinellm.geometry.partition import (
    block_bounds,
    block_sizes,
    complexity,
    hyperplane_distance,
    real_tokens,
    root_mean_square,
    row_norms,
    sign_counts,
    sign_entropy,
    sign_fraction,
)

__all__ = [
    "Attended",
    "DimensionRule",
    "Moments",
    "block_bounds",
    "block_sizes",
    "complexity",
    "hyperplane_distance",
    "intrinsic_dimension",
    "last_row_scores",
    "of_every_token",
    "scores_of_tokens",
    "real_tokens",
    "root_mean_square",
    "row_norms",
    "running_summary",
    "sign_counts",
    "sign_entropy",
    "sign_fraction",
]
