"""Batches for Ray Data, datasets, Daft and the like, and runs of the command line on Ray.

:class:`SplineBatch` and :class:`PredictBatch` are plain callables, and know nothing of Ray.
"""

from splinellm.ray.batches import PredictBatch, SplineBatch

__all__ = ["PredictBatch", "SplineBatch"]
