"""The spline partition itself: regions of piecewise-affine networks, exactly, in float64.

Start with :class:`PiecewiseAffine`. Read :mod:`splinellm.regions.operations` for how affine maps go
through a network, :mod:`splinellm.regions.polygons` for planes and
:mod:`splinellm.regions.enumeration` for all regions of a domain. docs/regions.md has examples.
"""

from splinellm.regions.complexity import hyperplanes_met
from splinellm.regions.directions import orthonormal_directions
from splinellm.regions.enumeration import Region
from splinellm.regions.network import PiecewiseAffine
from splinellm.regions.slices import SlicePartition, SliceRegion
from splinellm.regions.spectra import effective_rank, local_scaling

__all__ = [
    "PiecewiseAffine",
    "Region",
    "SlicePartition",
    "SliceRegion",
    "effective_rank",
    "hyperplanes_met",
    "local_scaling",
    "orthonormal_directions",
]
