"""Refinement: what a calibrated detector wins back without labels and without training."""

from yoloqat.refining.bias import BiasCorrection, correct_biases

__all__ = ["BiasCorrection", "correct_biases"]
