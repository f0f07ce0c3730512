r"""Fake quantization as pure functions, with NVIDIA's numerics.

Symmetric fake quantization maps a value x to

.. math:: y = \mathrm{clamp}(\mathrm{round}(x \cdot s), q_{min}, q_{max}) / s, \qquad s = q_{max} / amax

with ties rounded to even, as ``pytorch_quantization.tensor_quant`` does (Wu et al., "Integer Quantization for Deep Learning
Inference", arXiv:2004.09602). Its gradient is the straight-through estimator: 1 where abs(x) <= amax, else 0.

Here s is ``inv_scale``; the scale, the real value of one integer step, is its reciprocal.

Affine fake quantization uses the scale ``(high - low) / (2^bits - 1)`` and a zero-point, as ONNX QuantizeLinear does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from yoloqat.config import QuantScheme
from yoloqat.errors import CalibrationError
from yoloqat.quant.fused import AMAX_EPSILON, fake_quant_fused, fuses, fusible


def inv_scale(amax: Tensor, scheme: QuantScheme) -> Tensor:
    """Return the inverse scale ``qmax / amax``, float32, in the shape of ``amax``; 0 where amax is (nearly) zero."""
    amax = amax.float()
    # a true division: `number / tensor` would multiply by the reciprocal, one unit in the last place off
    inverse = torch.div(amax.new_tensor(scheme.high), amax)
    return inverse.masked_fill_(amax <= AMAX_EPSILON, 0.0)


def quantize(x: Tensor, inverse: Tensor, scheme: QuantScheme) -> Tensor:
    """Return the quantized values of ``x``: integers in a float tensor of the shape of ``x``.

    Args:
        x: Float tensor.
        inverse: The inverse scale from :func:`inv_scale`, broadcastable to ``x``.
        scheme: Gives qmin and qmax.
    """
    return torch.mul(x, inverse).round_().clamp_(scheme.low, scheme.high)


def fake_quant_scaled(x: Tensor, inverse: Tensor, scheme: QuantScheme) -> Tensor:
    """Fake-quantize ``x`` by a known inverse scale: one new tensor, three passes in place, no synchronisation.

    Args:
        x: Float tensor; half precision is computed in float32.
        inverse: The inverse scale from :func:`inv_scale`, broadcastable to ``x``.
        scheme: Gives qmin and qmax.

    Returns:
        Tensor of the dtype and shape of ``x``.
    """
    divisor = inverse.masked_fill(inverse == 0, 1.0)
    return quantize(x.float(), inverse, scheme).div_(divisor).to(x.dtype)


def _being_traced() -> bool:
    """Return whether torch records operators (export, compile, jit.trace): then a range must stay a tensor."""
    return bool(torch.compiler.is_compiling() or torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]


def _one_range_on_cpu(x: Tensor, amax: Tensor) -> bool:
    return amax.dim() == 0 and x.device.type == "cpu" and x.dtype == torch.float32 and not _being_traced()


def _fuses(x: Tensor, amax: Tensor, scheme: QuantScheme) -> bool:
    on_gpu = x.is_cuda and amax.is_cuda and not _being_traced()
    return on_gpu and fusible(x, amax, scheme) and fuses(x.device, _fake_quant_in_steps)


def _fake_quant_in_steps(x: Tensor, amax: Tensor, scheme: QuantScheme) -> Tensor:
    return fake_quant_scaled(x, inv_scale(amax, scheme), scheme)


def _fake_quant_on_cpu(x: Tensor, amax: Tensor, scheme: QuantScheme) -> Tensor:
    """Fake-quantize by one range on a CPU; the inverse scale is a Python float, because small tensors are slow."""
    limit = np.float32(amax.item())
    # a Python float holds a float32 exactly, so that torch multiplies and divides by that float32
    inverse = 0.0 if limit <= AMAX_EPSILON else float(np.float32(scheme.high) / limit)
    return torch.mul(x, inverse).round_().clamp_(scheme.low, scheme.high).div_(inverse or 1.0)


def _straight_through(gradient: Tensor, x: Tensor, amax: Tensor) -> Tensor:
    """Return ``gradient`` where abs(x) <= amax, else 0."""
    if _one_range_on_cpu(x, amax):
        # one pass instead of three; hardtanh's range is open, so that the bound is the next float above amax
        bound = float(np.nextafter(np.float32(amax.item()), np.float32(np.inf)))
        passed: Tensor = torch.ops.aten.hardtanh_backward(gradient, x, -bound, bound)
        return passed
    return torch.where(x.abs() <= amax, gradient, 0.0)


class _FakeQuant(torch.autograd.Function):
    """Symmetric fake quantization: straight-through gradient to x, LSQ gradient to an amax that requires one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, amax: Tensor, scheme: QuantScheme) -> Tensor:
        """Fake-quantize ``x`` and save the tensors that the gradient needs."""
        on_cpu, inside = _one_range_on_cpu(x, amax), None
        if _fuses(x, amax, scheme):
            mask = ctx.needs_input_grad[0] and not ctx.needs_input_grad[1]
            result, inside = fake_quant_fused(x, amax, scheme, mask=mask)
        else:
            result = (_fake_quant_on_cpu if on_cpu else _fake_quant_in_steps)(x, amax, scheme)
        if ctx.needs_input_grad[1]:
            ctx.high = scheme.high
            ctx.save_for_backward(x, amax, result)
        elif inside is not None:
            ctx.save_for_backward(inside)
        elif (
            x.is_leaf or on_cpu
        ):  # a weight stays in memory anyway; on a CPU the mask costs more time than it saves memory
            ctx.save_for_backward(x, amax)
        elif ctx.needs_input_grad[0]:
            ctx.save_for_backward(x.abs() <= amax)
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None]:
        """Pass the gradient where the value was inside the range."""
        gradient = grads[0]
        if len(ctx.saved_tensors) == 1:
            return torch.where(ctx.saved_tensors[0], gradient, 0.0), None, None
        x, amax, *rest = ctx.saved_tensors
        passed = _straight_through(gradient, x, amax.detach())
        if not rest:
            return passed, None, None
        result = rest[0]
        # inside the range the result moves with the rounding error, outside with the range's end
        slope = passed.float().mul(result - x).add_((gradient - passed).mul_(result))
        scaling = (x.numel() / x.shape[0] * ctx.high) ** -0.5
        return passed, slope.sum_to_size(amax.shape).div(amax).mul_(scaling), None


def fake_quant(x: Tensor, amax: Tensor, scheme: QuantScheme) -> Tensor:
    """Fake-quantize ``x`` symmetrically, with the straight-through gradient to ``x``.

    An ``amax`` that requires a gradient gets that of LSQ (Esser et al., "Learned Step Size Quantization", arXiv:1902.08153):
    the derivative of the result by the scale, times the scale per amax, multiplied by 1 / sqrt(N * qmax), where N counts the
    values per index of the first axis.

    Args:
        x: Float tensor.
        amax: The largest absolute value that is represented, broadcastable to ``x``; one value per tensor or per channel.
        scheme: Bits, signedness and range.

    Returns:
        Tensor of the dtype and shape of ``x``; a multiple of ``amax / qmax`` everywhere.
    """
    result: Tensor = _FakeQuant.apply(x, amax, scheme)
    return result


def affine_qparams(low: Tensor, high: Tensor, scheme: QuantScheme) -> tuple[Tensor, Tensor]:
    """Return scale and zero-point of an affine scheme that represents 0 exactly.

    Args:
        low: Smallest value represented, float; values above 0 count as 0.
        high: Largest value represented, float; values below 0 count as 0.
        scheme: Gives qmin and qmax.

    Returns:
        Scale (float32, 1 where the range is empty) and zero-point (float32, a whole number), shaped like ``low``.
    """
    low, high = low.float().clamp(max=0.0), high.float().clamp(min=0.0)
    scale = (high - low) / (scheme.high - scheme.low)
    scale = torch.where(high - low <= AMAX_EPSILON, torch.ones_like(scale), scale)
    zero_point = torch.round(scheme.low - low / scale).clamp(scheme.low, scheme.high)
    return scale, zero_point


class _FakeQuantAffine(torch.autograd.Function):
    """Affine fake quantization: straight-through gradient to x, LSQ gradient to an upper end that requires one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: Tensor, high: Tensor, scheme: QuantScheme) -> Tensor:
        """Fake-quantize ``x`` and save the tensors that the gradient needs."""
        scale, zero_point = affine_qparams(low, high, scheme)
        result = fake_quant_by_qparams(x, scale, zero_point, scheme)
        ctx.levels = scheme.high - scheme.low
        ctx.save_for_backward(x, low, high, *([result] if ctx.needs_input_grad[2] else []))
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, Tensor | None, None]:
        """Pass the gradient where the value was inside the range."""
        gradient = grads[0]
        x, low, high, *rest = ctx.saved_tensors
        inside = (x >= low) & (x <= high)
        passed = torch.where(inside, gradient, gradient.new_zeros(()))
        if not rest:
            return passed, None, None, None
        # inside the range the result moves with the rounding error, above it with the range's end; the lower end stays
        slope = passed.float().mul(rest[0] - x).div_(high - low)
        slope += torch.where(x > high, gradient.float(), 0.0)
        scaling = (x.numel() / x.shape[0] * ctx.levels) ** -0.5
        return passed, None, slope.sum_to_size(high.shape).mul_(scaling), None


def fake_quant_by_qparams(x: Tensor, scale: Tensor, zero_point: Tensor, scheme: QuantScheme) -> Tensor:
    """Fake-quantize ``x`` by scale and zero-point, as ONNX QuantizeLinear followed by DequantizeLinear does.

    Args:
        x: Float tensor; half precision is computed in float32.
        scale: Scale from :func:`affine_qparams`.
        zero_point: Zero-point from :func:`affine_qparams`.
        scheme: Gives qmin and qmax.
    """
    integers = torch.div(x.float(), scale).round_().add_(zero_point).clamp_(scheme.low, scheme.high)
    return integers.sub_(zero_point).mul_(scale).to(x.dtype)


def fake_quant_affine(x: Tensor, low: Tensor, high: Tensor, scheme: QuantScheme) -> Tensor:
    """Fake-quantize ``x`` by an affine scheme over [low, high], with the straight-through gradient to ``x``.

    A ``high`` that requires a gradient gets that of LSQ+ (Bhalgat et al., arXiv:2004.09576) with the lower end fixed: the
    derivative of the result by the scale, times the scale per upper end, multiplied by 1 / sqrt(N * integer steps), where N
    counts the values per index of the first axis.

    Args:
        x: Float tensor.
        low: Smallest value represented, shape ().
        high: Largest value represented, shape ().
        scheme: An affine scheme.
    """
    result: Tensor = _FakeQuantAffine.apply(x, low, high, scheme)
    return result


def reduce_amax(x: Tensor, *, axis: int | tuple[int, ...] | None = None, keepdims: bool = True) -> Tensor:
    """Return the largest absolute value of ``x``, of the whole tensor or per index of ``axis``.

    Args:
        x: Tensor of any float dtype.
        axis: The axis or axes to keep, or None for one value.
        keepdims: Keep reduced axes with size 1, so that the result broadcasts to ``x``; without effect when axis is None.

    Returns:
        Shape () for axis None, else the sizes of ``axis`` there and 1 (or nothing) elsewhere.

    Raises:
        CalibrationError: ``x`` has no elements or no such axis.
    """
    if x.numel() == 0:
        raise CalibrationError(
            f"a tensor to calibrate on has shape {tuple(x.shape)}", expected="elements", hint="check the images"
        )
    if axis is None:
        low, high = x.detach().aminmax()
        return torch.maximum(-low, high)
    kept = axis if isinstance(axis, tuple) else (axis,)
    if not all(-x.dim() <= one < x.dim() for one in kept):
        raise CalibrationError(
            f"the channel axis is {axis} and a tensor has shape {tuple(x.shape)}",
            expected="an axis of that tensor",
            hint="choose another axis",
        )
    axes = [dim for dim in range(x.dim()) if dim not in {one % x.dim() for one in kept}]
    # amax over no axes would reduce all of them
    return x.detach().abs().amax(dim=axes, keepdim=keepdims) if axes else x.detach().abs()
