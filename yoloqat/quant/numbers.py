"""The numbers of quantized layers as plain values: what an exporter needs of a calibrated model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from yoloqat.config import QuantScheme
from yoloqat.errors import CalibrationError
from yoloqat.quant.functional import codes, quant_scale
from yoloqat.quant.ranges import check_ranges
from yoloqat.quant.sharing import shared_sites
from yoloqat.quant.swap import activation_quantizers, quantized_layers
from yoloqat.quant.tensor_quantizer import TensorQuantizer


@dataclass(frozen=True)
class TensorNumbers:
    """Scale and zero-point of one quantized tensor.

    Attributes:
        scheme: Bits, symmetry and axis.
        scale: Step size, float32, shape () or (channels,).
        zero_point: Code of the value 0, int64, same shape as ``scale``; 0 when symmetric.
        codes: The integer codes of a constant tensor (a weight), int64, in the tensor's own shape; None for activations.
    """

    scheme: QuantScheme
    scale: NDArray[np.float32]
    zero_point: NDArray[np.int64]
    codes: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Numbers:
    """The numbers of a quantized module, as an exporter needs them.

    Attributes:
        activations: Name of each site whose quantizer is switched on, to its numbers.
        weights: Name of each layer whose weight is quantized, to the weight's numbers.
    """

    activations: dict[str, TensorNumbers]
    weights: dict[str, TensorNumbers]


def module_numbers(module: nn.Module) -> Numbers:
    """Return the numbers of all quantizers of ``module`` that are switched on; a shared quantizer is listed at every site.

    Raises:
        CalibrationError: A quantizer that is switched on has no range yet, or one that is NaN, infinite or erases a weight.
    """
    check_ranges(module)
    activations = {name: _tensor_numbers(quantizer) for name, quantizer in activation_quantizers(module)}
    activations |= {site: activations[owner] for site, owner in shared_sites(module).items()}
    weights = {name: _tensor_numbers(layer._weight_quantizer, layer.weight) for name, layer in quantized_layers(module)}
    return Numbers(_present(activations), _present(weights))


def _present(numbers: dict[str, TensorNumbers | None]) -> dict[str, TensorNumbers]:
    return {name: value for name, value in numbers.items() if value is not None}


def _tensor_numbers(quantizer: TensorQuantizer, constant: Tensor | None = None) -> TensorNumbers | None:
    if quantizer._disabled or not quantizer._if_quant:
        return None
    grid = quantizer.grid()
    if grid is None or quantizer.amax is None:
        raise CalibrationError(
            f"quantizer '{quantizer.name}' has no amax", expected="a calibrated model", hint="calibrate it first"
        )
    step, zero_point = (tensor.detach().cpu().flatten().numpy() for tensor in grid)
    if quantizer.scheme.axis is None:
        step, zero_point = step.reshape(()), zero_point.reshape(())
    integers = None
    if constant is not None:
        scale = quant_scale(quantizer.amax, quantizer.scheme)
        integers = codes(constant.detach().float(), scale, quantizer.scheme).cpu().numpy().astype(np.int64)
    return TensorNumbers(quantizer.scheme, step.astype(np.float32), zero_point.astype(np.int64), integers)
