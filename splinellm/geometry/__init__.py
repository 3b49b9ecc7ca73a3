"""The quantities of arXiv 2312.01648 as pure functions on tensors: no model, no I/O.

Read :mod:`splinellm.geometry.partition` for the spline features of an MLP and
:mod:`splinellm.geometry.attention` for the intrinsic dimension of the attention embeddings.

Shape letters, everywhere the same: B prompts in a batch, T tokens, H heads, K hyperplanes
(gate units) of a layer, D size of a head.
"""

from splinellm.geometry.attention import DimensionRule, intrinsic_dimension, last_row_scores
from splinellm.geometry.partition import (
    block_bounds,
    hyperplane_distance,
    real_tokens,
    row_norms,
    sign_block_means,
    sign_fraction,
    summarise,
)

__all__ = [
    "DimensionRule",
    "block_bounds",
    "hyperplane_distance",
    "intrinsic_dimension",
    "last_row_scores",
    "real_tokens",
    "row_norms",
    "sign_block_means",
    "sign_fraction",
    "summarise",
]
