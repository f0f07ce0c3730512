"""Float sets: which layers to leave in floating point, so that the noise falls most for the latency that it costs."""

from yoloqat.searching.problem import Border, Choice, FloatSet, Problem
from yoloqat.searching.solve import frontier, least_latency, least_noise

__all__ = ["Border", "Choice", "FloatSet", "Problem", "frontier", "least_latency", "least_noise"]
