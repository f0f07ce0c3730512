"""Ranges of weights by max or mse."""

from __future__ import annotations

from torch import Tensor

from yoloqat.config import QuantScheme
from yoloqat.detectors import Detector
from yoloqat.quant import quantized_layers
from yoloqat.quant.calib import amax_mse_channels
from yoloqat.quant.functional import reduce_amax


def calibrate_weights(detector: Detector, method: str = "mse") -> None:
    """Set the range of every quantized weight, per channel or per tensor as its scheme says.

    Args:
        detector: A quantized detector.
        method: ``"max"`` takes the largest absolute value, ``"mse"`` the range of least squared error.
    """
    for _, layer in quantized_layers(detector.module):
        quantizer = layer._weight_quantizer
        quantizer.amax = weight_amax(layer.weight.detach(), quantizer.scheme, method)


def weight_amax(weight: Tensor, scheme: QuantScheme, method: str = "mse") -> Tensor:
    """Return the amax of a weight, float32, broadcastable to it.

    Args:
        weight: Float tensor.
        scheme: Gives bits and the axis of the output channels, if each has a range of its own.
        method: As of :func:`calibrate_weights`.
    """
    axis = scheme.axis
    if method == "max":
        return reduce_amax(weight, axis=axis)
    rows = weight.reshape(1, -1) if axis is None else weight.movedim(axis, 0).flatten(1)
    shape = [] if axis is None else [-1 if dim == axis else 1 for dim in range(weight.dim())]
    return amax_mse_channels(rows, scheme).reshape(shape)
