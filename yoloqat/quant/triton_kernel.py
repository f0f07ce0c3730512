"""The Triton kernel of fake quantization; imported only to run it on a GPU, see :mod:`yoloqat.quant.fused`.

Triton reads the arguments' annotations as part of the kernel, so that it has none but its own.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit  # type: ignore[untyped-decorator]
def fake_quant_kernel(  # type: ignore[no-untyped-def]
    x_at,
    result_at,
    inside_at,
    amax_at,
    count,
    inner,
    channels,
    low,
    high,
    epsilon,
    block: tl.constexpr,
    keep: tl.constexpr,
):
    """Fake-quantize ``block`` values a program, in float32, and with ``keep`` note which lie inside their range.

    Args:
        x_at: Values, of any float dtype.
        result_at: Output, in the dtype of the values.
        inside_at: Output mask, one byte per value: 1 where abs(x) <= amax.
        amax_at: One float32 per channel.
        count: Number of values.
        inner: Neighbouring values of one channel.
        channels: Number of channels.
        low: qmin.
        high: qmax.
        epsilon: Amax at and below which everything becomes 0.
        block: Values per program.
        keep: Write ``inside_at``.
    """
    place = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    there = place < count
    x = tl.load(x_at + place, mask=there, other=0.0).to(tl.float32)
    amax = tl.load(amax_at + (place // inner) % channels, mask=there, other=1.0)
    dead = amax <= epsilon
    # exact divisions, as in the reference: by default a GPU's are two units in the last place off
    inverse = tl.where(dead, 0.0, tl.div_rn(tl.full([block], high, tl.float32), tl.where(dead, 1.0, amax)))
    integer = x * inverse
    # clamp before rounding: between integers the result is the same, and it keeps the rounding below exact
    integer = tl.minimum(integer, high, propagate_nan=tl.PropagateNan.ALL)
    integer = tl.maximum(integer, low, propagate_nan=tl.PropagateNan.ALL)
    # round to the nearest integer, ties to even: float32 does so by itself from 2^23 to 2^24, where its spacing is 1
    integer = (integer + 12582912.0) - 12582912.0
    result = tl.div_rn(integer, tl.where(dead, 1.0, inverse))
    tl.store(result_at + place, result.to(result_at.dtype.element_ty, fp_downcast_rounding="rtne"), mask=there)
    if keep:
        tl.store(inside_at + place, tl.abs(x) <= amax, mask=there)
