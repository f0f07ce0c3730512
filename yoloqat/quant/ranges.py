"""Checks of the ranges of a calibrated module."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from yoloqat.errors import CalibrationError
from yoloqat.quant.swap import quantized_layers, quantizers
from yoloqat.quant.tensor_quantizer import TensorQuantizer


def check_ranges(module: nn.Module, source: str = "the model", *, calibrated: bool = False) -> None:
    """Check the ranges of all quantizers that are switched on.

    An amax of 0 is that of a tensor that was all zeros while it was calibrated, or of a channel of a weight that is; the
    same of a channel that holds other values would erase it.

    Args:
        module: A module with quantizers, or a float one.
        source: The file it came from, for the message.
        calibrated: Refuse a quantizer without a range too, which would take that of each tensor that passes.

    Raises:
        CalibrationError: An end of a range is NaN, infinite or on the wrong side of 0, is missing, or erases a weight.
    """
    weights = {id(layer._weight_quantizer): layer.weight for _, layer in quantized_layers(module)}
    for name, quantizer in quantizers(module):
        if quantizer._disabled or not quantizer._if_quant:
            continue
        amax, low = quantizer.amax, quantizer.low
        if amax is None:
            if calibrated:
                raise _unfit(source, name, "has no amax")
            continue
        for end, sign, what in ((amax, 1, "amax"), (low, -1, "low end")):
            bad = None if end is None else _first_unfit(sign * end)
            if bad is not None:
                raise _unfit(source, name, f"has the {what} {sign * bad}")
        weight = weights.get(id(quantizer))
        if weight is not None and _erases(quantizer, amax, weight):
            raise _unfit(source, name, "has the amax 0.0 for weights that are not 0")


def _first_unfit(ends: Tensor) -> float | None:
    values = ends.detach().float().flatten()
    bad = values[~(torch.isfinite(values) & (values >= 0))]
    return float(bad[0]) if bad.numel() else None


def _erases(quantizer: TensorQuantizer, amax: Tensor, weight: Tensor) -> bool:
    axis = quantizer.scheme.axis
    rows = weight.detach().reshape(1, -1) if axis is None else weight.detach().movedim(axis, 0).flatten(1)
    return bool(((amax.flatten() == 0) & (rows != 0).any(dim=1)).any())


def _unfit(source: str, name: str, what: str) -> CalibrationError:
    return CalibrationError(
        f"quantizer '{name}' of {source} {what}", expected="finite ranges of at least 0", hint="calibrate it again"
    )
