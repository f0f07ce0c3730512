"""The functions of NVIDIA's CUDA extension, for tensors of any device; without gradient, as there."""

from __future__ import annotations

import torch
from torch import Tensor

from yoloqat.compat.errors import StateError
from yoloqat.compat.pytorch_quantization import tensor_quant
from yoloqat.compat.pytorch_quantization._fp8 import fake_e4m3fy

__all__ = ["fake_e4m3fy", "fake_tensor_quant", "fake_tensor_quant_", "fake_tensor_quant_with_axis"]


@torch.no_grad()
def fake_tensor_quant(
    inputs: Tensor, amax: Tensor, num_bits: int = 8, unsigned: bool = False, narrow_range: bool = True
) -> Tensor:
    """Return ``inputs`` fake-quantized by one range; arguments and errors as :func:`tensor_quant.fake_tensor_quant`."""
    return tensor_quant.fake_tensor_quant(inputs, amax, num_bits, unsigned, narrow_range)


@torch.no_grad()
def fake_tensor_quant_(
    inputs: Tensor, amax: Tensor, num_bits: int = 8, unsigned: bool = False, narrow_range: bool = True
) -> None:
    """Fake-quantize ``inputs`` in place by one range; arguments and errors as :func:`fake_tensor_quant`."""
    inputs.copy_(fake_tensor_quant(inputs, amax, num_bits, unsigned, narrow_range))


def fake_tensor_quant_with_axis(
    inputs: Tensor, amax: Tensor, axis: int, num_bits: int = 8, unsigned: bool = False, narrow_range: bool = True
) -> Tensor:
    """Return ``inputs`` fake-quantized by one range per index of ``axis``.

    Args:
        inputs: Float tensor.
        amax: As many values as ``inputs`` has along ``axis``, in any shape.
        axis: The channel axis.
        num_bits: Bit width.
        unsigned: Codes from 0.
        narrow_range: Leave out qmin of signed integers.

    Raises:
        StateError: ``inputs`` has no such axis, or ``amax`` another number of values.
    """
    if not -inputs.dim() <= axis < inputs.dim() or amax.numel() != inputs.shape[axis]:
        raise StateError(
            f"axis is {axis} and amax has {amax.numel()} values for a tensor of shape {tuple(inputs.shape)}",
            expected="one value per index of the axis",
            hint="reduce over the other axes",
        )
    shape = [1] * inputs.dim()
    shape[axis] = -1
    return fake_tensor_quant(inputs, amax.reshape(shape), num_bits, unsigned, narrow_range)
