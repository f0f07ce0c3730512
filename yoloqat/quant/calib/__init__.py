"""Calibrators: what they collect, and how amax comes from it."""

from yoloqat.quant.calib.channels import amax_mse_channels, amax_mse_rows, amax_percentile_rows
from yoloqat.quant.calib.histogram import Histogram, HistogramCalibrator
from yoloqat.quant.calib.max import MaxCalibrator
from yoloqat.quant.calib.search import amax_entropy, amax_entropy_even, amax_mse, amax_percentile
from yoloqat.quant.calib.shared import SharedCalibrator

__all__ = [
    "Histogram",
    "HistogramCalibrator",
    "MaxCalibrator",
    "SharedCalibrator",
    "amax_entropy",
    "amax_entropy_even",
    "amax_mse",
    "amax_mse_channels",
    "amax_mse_rows",
    "amax_percentile",
    "amax_percentile_rows",
]
