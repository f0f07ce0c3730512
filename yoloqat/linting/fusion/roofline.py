"""The least time that a layer can take: the longer of moving its bytes and computing its multiply-adds at peak."""

from __future__ import annotations

from yoloqat.linting.fusion.gpus import GPUS, Gpu
from yoloqat.linting.fusion.model import Kind


def roofline_ms(gpu: Gpu, *, kind: Kind, precision: str, moved: int, macs: int) -> float:
    """Return the least time of one layer in milliseconds.

    Launching a kernel, tiles that do not fill the GPU and caches are left out: real layers of a small detector at batch 1 take
    longer, so that times tell variants apart and are no latency.

    Args:
        gpu: Its peak rates.
        kind: Depthwise convolutions run on the CUDA cores, all others on the tensor cores.
        precision: Of the activations that are multiplied.
        moved: Bytes read and written.
        macs: Multiply-adds.
    """
    rate = gpu.cores if kind is Kind.DEPTHWISE else gpu.rate(precision)
    return 1000 * max(moved / gpu.bandwidth, 2 * macs / rate)


def times_ms(*, kind: Kind, precision: str, moved: int, macs: int) -> dict[str, float]:
    """Return the least time of one layer on every known GPU, by name, in milliseconds; arguments as of :func:`roofline_ms`."""
    return {
        name: roofline_ms(gpu, kind=kind, precision=precision, moved=moved, macs=macs) for name, gpu in GPUS.items()
    }
