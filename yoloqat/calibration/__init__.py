"""Calibration: one pass over the images gives statistics, from which every method computes its ranges."""

from yoloqat.calibration.collect import collect_statistics
from yoloqat.calibration.per_layer import Choice, choose_methods
from yoloqat.calibration.selection import greedy_cover, image_ranges
from yoloqat.calibration.statistics import Statistics, apply_method
from yoloqat.calibration.weights import calibrate_weights

__all__ = [
    "Choice",
    "Statistics",
    "apply_method",
    "calibrate_weights",
    "choose_methods",
    "collect_statistics",
    "greedy_cover",
    "image_ranges",
]
