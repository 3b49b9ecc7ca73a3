"""Pictures of what the library finds: functions that give a plotly figure, and write no file."""

try:
    import plotly  # noqa: F401
except ImportError as error:
    raise ImportError("pictures need plotly: pip install 'splinellm[plots]'") from error

from splinellm.plots.classifiers import (
    coefficients_picture,
    precision_recall_picture,
    reliability_picture,
    roc_picture,
)
from splinellm.plots.layers import comparison_picture, effects_picture, layers_picture
from splinellm.plots.maps import map_picture
from splinellm.plots.regions import slice_picture, training_picture
from splinellm.plots.scores import areas_picture, learning_picture
from splinellm.plots.tokens import dimension_picture, prefix_picture, tokens_picture

__all__ = [
    "layers_picture",
    "effects_picture",
    "map_picture",
    "tokens_picture",
    "dimension_picture",
    "prefix_picture",
    "reliability_picture",
    "roc_picture",
    "precision_recall_picture",
    "coefficients_picture",
    "learning_picture",
    "areas_picture",
    "comparison_picture",
    "slice_picture",
    "training_picture",
]
