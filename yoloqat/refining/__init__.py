"""Refinement: what a calibrated detector wins back without labels and without training."""

from yoloqat.refining.bias import BiasCorrection, correct_biases
from yoloqat.refining.ranges import LearnedRanges, learn_ranges

__all__ = ["BiasCorrection", "LearnedRanges", "correct_biases", "learn_ranges"]
