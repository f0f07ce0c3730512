"""Images to statistics, statistics to the ranges of every method, from one pass."""

from yoloqat.calibration.collect import collect_statistics
from yoloqat.calibration.statistics import Statistics, apply_method

__all__ = ["Statistics", "apply_method", "collect_statistics"]
