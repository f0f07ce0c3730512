"""Rounding to FP8 with 4 bits of exponent and 3 of mantissa (E4M3), as NVIDIA's package emulates it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from yoloqat.compat.errors import UnsupportedError
from yoloqat.quant.fused import AMAX_EPSILON

E4M3 = (4, 3)
"""Value of ``num_bits`` for FP8."""

LARGEST = 448.0
"""The largest number of the format; beyond it values saturate."""


def fake_e4m3fy(inputs: Tensor) -> Tensor:
    """Return ``inputs`` rounded to the nearest number of the format, ties to even, in their own dtype; without gradient."""
    return inputs.detach().float().clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn).to(inputs.dtype)


class _ScaledE4M3(torch.autograd.Function):
    """Rounding of values scaled so that amax becomes the largest number, with the straight-through gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, amax: Tensor) -> Tensor:
        """Round ``x``; values below half precision become 0, also where amax is."""
        ctx.save_for_backward(x, amax)
        scale = LARGEST / amax.float()
        rounded = fake_e4m3fy(x.float() * scale) / scale
        return rounded.masked_fill(x.abs() < AMAX_EPSILON, 0.0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """Pass the gradient where the value was inside the range."""
        x, amax = ctx.saved_tensors
        return torch.where(x.abs() <= amax, grads[0], 0.0), None


def scaled_e4m3(inputs: Tensor, amax: Tensor | float | None = None, E: int = 4, M: int = 3) -> Tensor:  # noqa: N803
    """Round ``inputs`` to FP8 E4M3 after scaling ``amax`` to 448, with the straight-through gradient.

    Args:
        inputs: Float tensor.
        amax: Largest absolute value represented, broadcastable to ``inputs``; None for 448, no scaling.
        E: Bits of the exponent; only 4.
        M: Bits of the mantissa; only 3.

    Raises:
        UnsupportedError: Another format is asked for.
    """
    if (E, M) != E4M3:
        raise UnsupportedError(f"E and M are {(E, M)}", expected=f"{E4M3}", hint="leave both out")
    limit = torch.as_tensor(LARGEST if amax is None else amax, device=inputs.device).detach()
    result: Tensor = _ScaledE4M3.apply(inputs, limit)
    return result
