"""Fake quantization in one GPU kernel, bit-identical to :mod:`yoloqat.quant.functional`.

The reference takes a dozen kernels: on a GPU each reads and writes the whole tensor, and small ones cost their launch. Triton
comes with torch's CUDA builds. When it is absent, cannot compile (it needs a C compiler) or differs from the reference in a
trial, the reference runs.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from functools import cache
from math import prod
from typing import Any

import torch
from torch import Tensor

from yoloqat.config import QuantScheme

Reference = Callable[[Tensor, Tensor, QuantScheme], Tensor]
"""Fake-quantizes values by an amax and a scheme."""

AMAX_EPSILON = 1.0 / (1 << 24)
"""An amax of at most this (the least positive value of float16) means a tensor of zeros: everything maps to 0."""

BLOCK = 1024
"""Values per program of the kernel."""

EXACT = 1 << 22
"""The kernel's rounding is exact for integers below this absolute value."""

TRIED = 1 << 14
"""Number of values in the trial."""


@cache
def kernel() -> Any:
    """Return the kernel, or None where Triton is absent."""
    try:
        return importlib.import_module("yoloqat.quant.triton_kernel").fake_quant_kernel
    except ImportError:
        return None


@cache
def fuses(device: torch.device, reference: Reference) -> bool:
    """Return whether the kernel runs on a device and equals the reference; tried once per device.

    The trial has values of all sizes, among them every tie between two integers, NaN and a range of 0.
    """
    if kernel() is None:
        return False
    scheme = QuantScheme()
    ties = (torch.arange(TRIED, device=device) - TRIED / 2) / 2
    spread = torch.linspace(-30, 10, TRIED, device=device).exp2() * (1 - 2 * (torch.arange(TRIED, device=device) % 2))
    x = torch.stack([ties, spread, spread, torch.full_like(ties, torch.nan)])
    amax = torch.tensor([[127.0], [3.3], [0.0], [1.0]], device=device)
    try:
        result, inside = fake_quant_fused(x, amax, scheme, mask=True)
        expected = reference(x, amax, scheme)
    except Exception as error:  # whatever a compiler, a driver or a launch says, the reference does the work
        warnings.warn(f"fake quantization is not fused on {device}: Triton says {error!s:.200}", stacklevel=2)
        return False
    same = torch.equal(result.nan_to_num(7.0), expected.nan_to_num(7.0))
    if not same or inside is None or not torch.equal(inside, x.abs() <= amax):
        warnings.warn(f"fake quantization is not fused on {device}: Triton's numbers differ", stacklevel=2)
        return False
    return True


def fusible(x: Tensor, amax: Tensor, scheme: QuantScheme) -> bool:
    """Return whether the shapes, layouts and dtypes are those that :func:`fake_quant_fused` accepts, on any device."""
    ranges = amax.numel()
    # with the channels last the first axis still is the outermost
    outermost = ranges == 1 or (amax.dim() == x.dim() and amax.shape[0] == ranges)
    channels_last = x.dim() == len("NCHW") and x.is_contiguous(memory_format=torch.channels_last)
    dense = x.is_contiguous() or (outermost and channels_last)
    one_axis = ranges == 1 or (amax.dim() == x.dim() and max(amax.shape) == ranges)
    floating = x.dtype in (torch.float32, torch.float16, torch.bfloat16) and amax.dtype == torch.float32
    return dense and one_axis and floating and scheme.high < EXACT and x.numel() > 0


def fake_quant_fused(x: Tensor, amax: Tensor, scheme: QuantScheme, *, mask: bool) -> tuple[Tensor, Tensor | None]:
    """Fake-quantize ``x`` symmetrically in one kernel.

    Args:
        x: A tensor that :func:`fusible` accepts; half precision is computed in float32.
        amax: float32, one value, or one per index of one axis of ``x``, in a shape that broadcasts to it.
        scheme: Gives qmin and qmax.
        mask: Ask for the second result.

    Returns:
        Tensor of the dtype, shape and layout of ``x``, and where abs(x) <= amax, as a bool in the shape of ``x``.
    """
    result = torch.empty_like(x)
    inside = torch.empty_like(x, dtype=torch.bool) if mask else None
    channels = amax.numel()
    axis = amax.shape.index(channels) if channels > 1 else 0
    # values that follow each other and have one range
    inner = x.numel() // channels if axis == 0 else prod(x.shape[axis + 1 :])
    grid = ((x.numel() + BLOCK - 1) // BLOCK,)
    with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
        kernel()[grid](
            x,
            result,
            result if inside is None else inside.view(torch.int8),
            amax.contiguous(),
            x.numel(),
            inner,
            channels,
            float(scheme.low),
            float(scheme.high),
            AMAX_EPSILON,
            block=BLOCK,
            keep=mask,
            enable_fp_fusion=False,  # a fused multiply-add rounds differently
        )
    return result, inside
