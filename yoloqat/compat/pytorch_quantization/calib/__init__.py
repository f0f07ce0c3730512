"""Calibrators (NVIDIA's ``pytorch_quantization.calib``) over :mod:`yoloqat.quant.calib`."""

from yoloqat.compat.pytorch_quantization.calib.histogram import HistogramCalibrator
from yoloqat.compat.pytorch_quantization.calib.max import MaxCalibrator
from yoloqat.compat.pytorch_quantization.calib.weights import calibrate_weights

__all__ = ["HistogramCalibrator", "MaxCalibrator", "calibrate_weights"]
