"""Calibration of weights by other methods than max."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.conv import _ConvTransposeNd

from yoloqat.compat.errors import ArgumentTypeError
from yoloqat.quant.calib import amax_mse, amax_percentile

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
        ArgumentTypeError: The method is unknown.
    """
    if method not in _METHODS:
        raise ArgumentTypeError(
            f"calibration method is {method!r}", expected=f"one of {', '.join(_METHODS)}", mend="choose one"
        )
    for module in model.modules():
        quantizer, weight = getattr(module, "weight_quantizer", None), getattr(module, "weight", None)
        if quantizer is None or not isinstance(weight, torch.Tensor):
            continue
        axis = 1 if isinstance(module, _ConvTransposeNd) else 0
        values = weight.detach().abs().float().cpu().numpy()
        rows = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1) if perchannel else values.reshape(1, -1)
        found = [_amax(row, method, quantizer.num_bits, quantizer.unsigned, percentile, num_bins) for row in rows]
        shape = [-1 if dim == axis else 1 for dim in range(values.ndim)] if perchannel else []
        quantizer.amax = np.array(found, dtype=np.float32).reshape(shape)


def _amax(
    values: NDArray[np.float32], method: str, bits: int, unsigned: bool, percentile: float, num_bins: int
) -> float:
    highest = float(values.max())
    if method == "max" or highest == 0.0:
        return highest
    counts, edges = np.histogram(values, bins=num_bins, range=(0.0, highest))
    counts, edges = counts.astype(np.int64), edges.astype(np.float32)
    if method == "mse":
        return amax_mse(counts, edges, bits=bits, unsigned=unsigned)
    return amax_percentile(counts, edges, percentile=percentile)
