"""Pictures of what the library finds: functions that give a plotly figure, and write no file."""

try:
    import plotly  # noqa: F401
except ImportError as error:
    raise ImportError("pictures need plotly: pip install 'splinellm[plots]'") from error

from splinellm.plots.regions import slice_picture, training_picture

__all__ = ["slice_picture", "training_picture"]
