"""From prompts to a FeatureTable."""

from splinellm.extraction.extractor import PrecisionWarning, SplineExtractor
from splinellm.extraction.verification import VerificationReport

__all__ = ["PrecisionWarning", "SplineExtractor", "VerificationReport"]
