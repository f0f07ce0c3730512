"""Clipping to a range that may be learned, and fake quantization by torch's own operators for export."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from yoloqat.compat.errors import ArgumentTypeError, ArgumentValueError
from yoloqat.config import QuantScheme
from yoloqat.quant.fused import AMAX_EPSILON

__all__ = ["ClipFunction", "clip", "native_fake_quant"]


class ClipFunction(torch.autograd.Function):
    """Clipping whose bounds take the gradient of everything at or beyond them (PACT, arXiv:1805.06085)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Clip ``x`` to [low, high]."""
        ctx.save_for_backward(x, low, high)
        return torch.maximum(torch.minimum(x, high), low)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Pass the gradient to ``x`` inside the range and to the bounds outside.

        Raises:
            ArgumentValueError: A bound that is learned has more than one element.
        """
        x, low, high = ctx.saved_tensors
        for bound, learned in zip((low, high), ctx.needs_input_grad[1:], strict=True):
            if learned and bound.numel() != 1:
                raise ArgumentValueError(
                    f"a bound to be learned has shape {tuple(bound.shape)}",
                    expected="one element",
                    hint="learn a scalar",
                )
        above_low, below_high = x > low, x < high
        zero = grads[0].new_zeros(())
        bounds = [
            torch.where(inside, zero, grads[0]).sum().to(bound.dtype).reshape(bound.shape) if learned else None
            for inside, bound, learned in zip(
                (above_low, below_high), (low, high), ctx.needs_input_grad[1:], strict=True
            )
        ]
        return torch.where(above_low & below_high, grads[0], zero), bounds[0], bounds[1]


def clip(input: Tensor, clip_value_min: Tensor | float, clip_value_max: Tensor | float) -> Tensor:  # noqa: A002
    """Clip ``input`` to [``clip_value_min``, ``clip_value_max``], numbers or tensors that broadcast to it.

    The gradient of a bound is that of a scalar: one to be learned that has more than one element is an error when the
    gradient is computed.
    """
    low, high = (
        torch.as_tensor(bound, dtype=input.dtype if not isinstance(bound, Tensor) else None, device=input.device)
        for bound in (clip_value_min, clip_value_max)
    )
    result: Tensor = ClipFunction.apply(input, low, high)
    return result


def native_fake_quant(x: Tensor, amax: Tensor, scheme: QuantScheme) -> Tensor:
    """Fake-quantize ``x`` by torch's own operator, which exporters turn into QuantizeLinear and DequantizeLinear.

    The full integer range is used even with ``narrow_range``, as ONNX does.

    Args:
        x: Float tensor; half precision is computed in float32.
        amax: Shape () or with one axis longer than 1.
        scheme: Bits and signedness.

    Raises:
        ArgumentTypeError: More axes are longer than 1, which the operator does not take.
    """
    low, high = (0 if scheme.unsigned else -scheme.high - 1), scheme.high
    dtype, x, amax = x.dtype, x.float(), amax.detach().float()
    step = torch.where(amax <= AMAX_EPSILON, torch.ones_like(amax), amax / scheme.high).flatten()
    with warnings.catch_warnings():
        # ranges are to become constants of a traced graph
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        axes = [axis for axis, size in enumerate(amax.shape) if size > 1]
        if len(axes) > 1:
            raise ArgumentTypeError(
                f"amax of a quantizer to export has shape {tuple(amax.shape)}",
                expected="one channel axis at most",
                hint="describe it with a single axis",
            )
        if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            step = torch.tensor(step.tolist(), device=step.device)
    zero = torch.zeros_like(step, dtype=torch.int32)
    if axes:
        step, zero = step.to(x.device), zero.to(x.device)
        return torch.fake_quantize_per_channel_affine(x, step, zero, axes[0], low, high).to(dtype)
    return torch.fake_quantize_per_tensor_affine(x, step.reshape(()), zero.reshape(()), low, high).to(dtype)
