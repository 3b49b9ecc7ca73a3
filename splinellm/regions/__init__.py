from splinellm.regions.network import PiecewiseAffine
