"""Quantization parameters of a calibrated module as plain NumPy values, for exporters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from yoloqat.config import QuantScheme
from yoloqat.errors import CalibrationError
from yoloqat.quant.functional import inv_scale, quantize
from yoloqat.quant.ranges import check_ranges
from yoloqat.quant.sharing import shared_locations
from yoloqat.quant.swap import activation_quantizers, quantized_layers
from yoloqat.quant.tensor_quantizer import TensorQuantizer


@dataclass(frozen=True)
class TensorQParams:
    """Scale and zero-point of one quantized tensor.

    Attributes:
        scheme: Bits, symmetry and axis.
        scale: Real value of one integer step, float32, shape () or (channels,).
        zero_point: Integer that stands for 0.0, int64, same shape as ``scale``; 0 when symmetric.
        integers: The quantized values of a constant tensor (a weight), int64, in the tensor's own shape; None for activations.
    """

    scheme: QuantScheme
    scale: NDArray[np.float32]
    zero_point: NDArray[np.int64]
    integers: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class QParams:
    """Quantization parameters of a module.

    Attributes:
        activations: Maps each quantizer location that is switched on to its qparams.
        weights: Maps each layer with a quantized weight to the weight's qparams.
    """

    activations: dict[str, TensorQParams]
    weights: dict[str, TensorQParams]


def module_qparams(module: nn.Module) -> QParams:
    """Return the qparams of all quantizers of ``module`` that are switched on; a shared one appears at each of its locations.

    Raises:
        CalibrationError: A quantizer that is switched on has no range yet, or one that is NaN, infinite or erases a weight.
    """
    check_ranges(module)
    activations = {name: tensor_qparams(quantizer) for name, quantizer in activation_quantizers(module)}
    activations |= {location: activations[owner] for location, owner in shared_locations(module).items()}
    weights = {name: tensor_qparams(layer._weight_quantizer, layer.weight) for name, layer in quantized_layers(module)}
    return QParams(_present(activations), _present(weights))


def _present(qparams: dict[str, TensorQParams | None]) -> dict[str, TensorQParams]:
    return {name: value for name, value in qparams.items() if value is not None}


def tensor_qparams(quantizer: TensorQuantizer, constant: Tensor | None = None) -> TensorQParams | None:
    """Return the qparams of one quantizer; None where it is switched off.

    Args:
        quantizer: With a range.
        constant: The weight that it quantizes, whose integers are returned too.

    Raises:
        CalibrationError: It has no range.
    """
    if quantizer._disabled or not quantizer._if_quant:
        return None
    found = quantizer.qparams()
    if found is None or quantizer.amax is None:
        raise CalibrationError(
            f"quantizer '{quantizer.name}' has no amax", expected="a calibrated model", hint="calibrate it first"
        )
    scale, zero_point = (tensor.detach().cpu().flatten().numpy() for tensor in found)
    if quantizer.scheme.axis is None:
        scale, zero_point = scale.reshape(()), zero_point.reshape(())
    integers = None
    if constant is not None:
        inverse = inv_scale(quantizer.amax, quantizer.scheme)
        integers = quantize(constant.detach().float(), inverse, quantizer.scheme).cpu().numpy().astype(np.int64)
    return TensorQParams(quantizer.scheme, scale.astype(np.float32), zero_point.astype(np.int64), integers)
