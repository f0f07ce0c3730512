"""Ranges of weights by max or mse."""

from __future__ import annotations

from yoloqat.detectors import Detector
from yoloqat.quant import quantized_layers
from yoloqat.quant.calib import amax_mse_channels


def calibrate_weights(detector: Detector, method: str = "mse") -> None:
    """Set the range of every quantized weight, per channel or per tensor as its scheme says.

    Args:
        detector: A quantized detector.
        method: ``"max"`` takes the largest absolute value, ``"mse"`` the range of least squared error.
    """
    for _, layer in quantized_layers(detector.module):
        if method == "max":
            layer.calibrate_weight()
            continue
        quantizer, weight = layer._weight_quantizer, layer.weight.detach()
        axis = quantizer.scheme.axis
        rows = weight.reshape(1, -1) if axis is None else weight.movedim(axis, 0).flatten(1)
        shape = [] if axis is None else [-1 if dim == axis else 1 for dim in range(weight.dim())]
        quantizer.amax = amax_mse_channels(rows, quantizer.scheme).reshape(shape)
