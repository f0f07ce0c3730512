"""Descriptors and quantization functions (NVIDIA's ``pytorch_quantization.tensor_quant``) over :mod:`yoloqat.quant`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from yoloqat.compat.errors import ArgumentTypeError, ArgumentValueError
from yoloqat.compat.pytorch_quantization._descriptor import ScaledQuantDescriptor, integer_scheme
from yoloqat.compat.pytorch_quantization._fp8 import scaled_e4m3
from yoloqat.config import QuantScheme
from yoloqat.quant.functional import fake_quant, fake_quant_affine, inv_scale, quantize

__all__ = [
    "QUANT_DESC_8BIT_CONV1D_WEIGHT_PER_CHANNEL",
    "QUANT_DESC_8BIT_CONV2D_WEIGHT_PER_CHANNEL",
    "QUANT_DESC_8BIT_CONV3D_WEIGHT_PER_CHANNEL",
    "QUANT_DESC_8BIT_CONVTRANSPOSE1D_WEIGHT_PER_CHANNEL",
    "QUANT_DESC_8BIT_CONVTRANSPOSE2D_WEIGHT_PER_CHANNEL",
    "QUANT_DESC_8BIT_CONVTRANSPOSE3D_WEIGHT_PER_CHANNEL",
    "QUANT_DESC_8BIT_LINEAR_WEIGHT_PER_ROW",
    "QUANT_DESC_8BIT_PER_TENSOR",
    "QUANT_DESC_UNSIGNED_8BIT_PER_TENSOR",
    "QuantDescriptor",
    "ScaledQuantDescriptor",
    "fake_affine_tensor_quant",
    "fake_tensor_quant",
    "legacy_fake_tensor_quant",
    "scaled_e4m3",
    "tensor_quant",
]

QuantDescriptor = ScaledQuantDescriptor

QUANT_DESC_8BIT_PER_TENSOR = QuantDescriptor(num_bits=8)
QUANT_DESC_UNSIGNED_8BIT_PER_TENSOR = QuantDescriptor(num_bits=8, unsigned=True)
QUANT_DESC_8BIT_CONV1D_WEIGHT_PER_CHANNEL = QuantDescriptor(num_bits=8, axis=0)
QUANT_DESC_8BIT_CONV2D_WEIGHT_PER_CHANNEL = QuantDescriptor(num_bits=8, axis=0)
QUANT_DESC_8BIT_CONV3D_WEIGHT_PER_CHANNEL = QuantDescriptor(num_bits=8, axis=0)
QUANT_DESC_8BIT_LINEAR_WEIGHT_PER_ROW = QuantDescriptor(num_bits=8, axis=0)
# output channels, as in NVIDIA's releases since 2.2; those before took axis 0 here too
QUANT_DESC_8BIT_CONVTRANSPOSE1D_WEIGHT_PER_CHANNEL = QuantDescriptor(num_bits=8, axis=1)
QUANT_DESC_8BIT_CONVTRANSPOSE2D_WEIGHT_PER_CHANNEL = QuantDescriptor(num_bits=8, axis=1)
QUANT_DESC_8BIT_CONVTRANSPOSE3D_WEIGHT_PER_CHANNEL = QuantDescriptor(num_bits=8, axis=1)

_LARGEST_HALF = 65504.0


def fake_tensor_quant(
    inputs: Tensor,
    amax: Tensor | float,
    num_bits: int = 8,
    unsigned: bool = False,
    narrow_range: bool = True,
) -> Tensor:
    """Fake-quantize ``inputs`` symmetrically, with the straight-through gradient to ``inputs`` alone.

    Args:
        inputs: Float tensor.
        amax: Largest absolute value represented, broadcastable to ``inputs``; it gets no gradient.
        num_bits: Bit width.
        unsigned: Codes from 0.
        narrow_range: Leave out qmin of signed integers (NVIDIA's default here, though not in its descriptors).

    Raises:
        ArgumentTypeError: ``inputs`` holds negative values and the integers are unsigned.
        ArgumentValueError: ``amax`` is negative.
    """
    amax, scheme = _checked(inputs, amax, num_bits, unsigned, narrow_range)
    return fake_quant(inputs, amax, scheme)


legacy_fake_tensor_quant = fake_tensor_quant


def tensor_quant(
    inputs: Tensor,
    amax: Tensor | float,
    num_bits: int = 8,
    unsigned: bool = False,
    narrow_range: bool = True,
) -> tuple[Tensor, Tensor]:
    """Return the integers of ``inputs``, as floats, and the inverse scale; arguments as :func:`fake_tensor_quant`.

    Raises:
        ArgumentTypeError: ``inputs`` holds negative values and the integers are unsigned.
        ArgumentValueError: ``amax`` is negative, or so small that a half-precision scale overflows.
    """
    amax, scheme = _checked(inputs, amax, num_bits, unsigned, narrow_range)
    result: tuple[Tensor, Tensor] = _Codes.apply(inputs, amax, scheme)
    return result


def fake_affine_tensor_quant(
    inputs: Tensor, min_range: Tensor | float, max_range: Tensor | float, num_bits: int = 8
) -> Tensor:
    """Fake-quantize ``inputs`` by an affine scheme over [``min_range``, ``max_range``], with the straight-through gradient.

    A range that does not hold 0 is widened to it, so that 0 stays exact, which ONNX asks for and NVIDIA's code does not do.

    Args:
        inputs: Float tensor.
        min_range: Smallest value represented.
        max_range: Largest value represented.
        num_bits: Bit width.
    """
    low, high = (torch.as_tensor(end, dtype=torch.float32, device=inputs.device) for end in (min_range, max_range))
    return fake_quant_affine(inputs, low.detach(), high.detach(), integer_scheme(num_bits, symmetric=False))


class _Codes(torch.autograd.Function):
    """Integer codes with the straight-through gradient; NVIDIA does not scale that gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, amax: Tensor, scheme: QuantScheme) -> tuple[Tensor, Tensor]:
        """Return integers and the inverse scale, which is 1 where amax is zero."""
        ctx.save_for_backward(x, amax)
        scale = inv_scale(amax, scheme)
        integers = quantize(x.float(), scale, scheme)
        scale = torch.where(scale == 0, torch.ones_like(scale), scale)
        ctx.mark_non_differentiable(scale)
        if x.dtype == torch.half and float(scale.max()) > _LARGEST_HALF:
            raise ArgumentValueError(
                f"amax is {float(amax.min()):g} with half-precision inputs",
                expected=f"a scale of at most {_LARGEST_HALF:g}",
                hint="quantize in float32",
            )
        return integers.to(x.dtype), scale.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        """Pass the gradient where the value was inside the range."""
        x, amax = ctx.saved_tensors
        return torch.where(x.abs() <= amax, grads[0], grads[0].new_zeros(())), None, None


def _checked(
    inputs: Tensor, amax: Tensor | float, num_bits: int, unsigned: bool, narrow_range: bool
) -> tuple[Tensor, QuantScheme]:
    amax = torch.as_tensor(amax, device=inputs.device).detach()
    least = float(inputs.detach().min()) if unsigned and inputs.numel() else 0.0
    if least < 0.0:
        raise ArgumentTypeError(
            f"a tensor to quantize without sign holds {least:g}",
            expected="no negative values",
            hint="quantize with unsigned=False",
        )
    least = float(amax.min())
    if least < 0.0:
        raise ArgumentValueError(
            f"amax is {least:g}", expected="no negative values", hint="pass the largest absolute value"
        )
    return amax, integer_scheme(num_bits, unsigned=unsigned, narrow_range=narrow_range)


class TensorQuantFunction:
    """:func:`tensor_quant` under the name of NVIDIA's class."""

    apply = staticmethod(tensor_quant)


class FakeTensorQuantFunction:
    """:func:`fake_tensor_quant` under the name of NVIDIA's class."""

    apply = staticmethod(fake_tensor_quant)


class LegacyFakeTensorQuantFunction(FakeTensorQuantFunction):
    """:func:`legacy_fake_tensor_quant` under the name of NVIDIA's class."""


class FakeAffineTensorQuantFunction:
    """:func:`fake_affine_tensor_quant` under the name of NVIDIA's class."""

    apply = staticmethod(fake_affine_tensor_quant)


class ScaledE4M3Function:
    """:func:`scaled_e4m3` under the name of NVIDIA's class."""

    apply = staticmethod(scaled_e4m3)
