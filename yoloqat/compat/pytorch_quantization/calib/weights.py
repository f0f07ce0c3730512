"""Calibration of weights by other methods than max."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn.modules.conv import _ConvTransposeNd

from yoloqat.compat.errors import ArgumentTypeError, ArgumentValueError
from yoloqat.quant.calib import amax_mse_rows, amax_percentile_rows

__all__ = ["calibrate_weights"]

_METHODS = ("max", "mse", "percentile")


def calibrate_weights(
    model: nn.Module,
    method: str = "percentile",
    perchannel: bool = True,
    percentile: float = 99.99,
    num_bins: int = 2048,
) -> None:
    """Set amax of every weight quantizer of ``model`` from a histogram of its weight.

    Args:
        model: Changed in place; its layers with a ``weight`` and a ``weight_quantizer`` take part.
        method: ``"max"``, ``"mse"`` or ``"percentile"``.
        perchannel: One amax per output channel rather than one per tensor.
        percentile: For ``"percentile"``.
        num_bins: Bins of each histogram.

    Raises:
        ArgumentTypeError: The method is unknown, or searches among integers and the format is FP8.
        ArgumentValueError: The percentile or the number of bins is out of range.
    """
    if method not in _METHODS:
        raise ArgumentTypeError(
            f"calibration method is {method!r}", expected=f"one of {', '.join(_METHODS)}", hint="choose one"
        )
    if not 0.0 <= percentile <= 100.0:
        raise ArgumentValueError(
            f"percentile is {percentile!r}", expected="a number in the range 0 to 100", hint="write e.g. 99.99"
        )
    if not isinstance(num_bins, int) or num_bins < 1:
        raise ArgumentValueError(f"num_bins is {num_bins!r}", expected="at least 1", hint="leave it out for 2048")
    for module in model.modules():
        quantizer, weight = getattr(module, "weight_quantizer", None), getattr(module, "weight", None)
        if quantizer is None or not isinstance(weight, torch.Tensor):
            continue
        axis = 1 if isinstance(module, _ConvTransposeNd) else 0
        if method == "mse" and isinstance(quantizer.num_bits, tuple):
            raise ArgumentTypeError(
                f"num_bits is {quantizer.num_bits!r} with method {method!r}",
                expected="a number of bits",
                hint="take the percentile or max",
            )
        values = weight.detach().abs().float().cpu().numpy()
        rows = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1) if perchannel else values.reshape(1, -1)
        found = rows.max(axis=1)
        filled = found > 0  # a channel of zeros has no histogram
        if method == "mse" and filled.any():
            bits, unsigned = quantizer.num_bits, quantizer.unsigned
            found[filled] = amax_mse_rows(rows[filled], num_bins, bits=bits, unsigned=unsigned)
        elif method == "percentile" and filled.any():
            found[filled] = amax_percentile_rows(rows[filled], num_bins, percentile=percentile)
        shape = [-1 if dim == axis else 1 for dim in range(values.ndim)] if perchannel else []
        quantizer.amax = found.reshape(shape)
