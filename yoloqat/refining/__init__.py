"""Refinement: what a calibrated detector wins back without labels and without training."""

from yoloqat.refining.bias import BiasCorrection, correct_biases
from yoloqat.refining.ranges import RangeRefinement, learn_ranges
from yoloqat.refining.rounding import LearnedRounding, RoundingConfig, learn_rounding

__all__ = [
    "BiasCorrection",
    "LearnedRounding",
    "RangeRefinement",
    "RoundingConfig",
    "correct_biases",
    "learn_ranges",
    "learn_rounding",
]
