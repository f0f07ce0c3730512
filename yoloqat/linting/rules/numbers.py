"""Rules about scales, zero-points and the type of the codes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from yoloqat.linting.finding import Hit, gathered
from yoloqat.linting.graph import Graph
from yoloqat.linting.sites import Site

OTHER_PRECISIONS = frozenset(
    {
        TensorProto.INT4,
        TensorProto.FLOAT4E2M1,
        TensorProto.FLOAT8E4M3FN,
    }
)
"""Types of codes that TensorRT reads besides INT8."""

_FP16 = np.finfo(np.float16)


def type_name(code: int) -> str:
    """Return the name of an ONNX element type, e.g. ``"UINT8"``."""
    return str(TensorProto.DataType.Name(code)) if code in TensorProto.DataType.values() else str(code)


def _worst(values: NDArray[np.generic]) -> str:
    return f"{float(values.flat[0]):g}"


def zero_point(graph: Graph) -> Iterator[Hit]:
    """Find zero-points that are not 0, not constant, absent from a QuantizeLinear, or not one per scale."""
    absent, unknown, shifted, sizes = [], [], [], []
    for site in graph.sites:
        points = site.zero_point
        if not site.zero_point_name:
            if site.quantizes and site.code == TensorProto.UNDEFINED:
                absent.append((site.name, ""))
        elif points is None:
            unknown.append((site.name, f"reads '{site.zero_point_name}'"))
        elif np.any(points.astype(np.float64) != 0):
            nonzero = points[points.astype(np.float64) != 0]
            shifted.append((site.name, f"has {_worst(nonzero)}"))
        elif site.scale is not None and points.size != site.scale.size:
            sizes.append((site.name, f"has {points.size} for {site.scale.size} scales"))
    yield from gathered("zero-points are not 0", shifted)
    yield from gathered("zero-points are absent, which ONNX reads as UINT8 and TensorRT as INT8", absent)
    yield from gathered("zero-points are not constant", unknown)
    yield from gathered("zero-points are not as many as scales", sizes)


def code_type(graph: Graph) -> Iterator[Hit]:
    """Find codes of a type that the engine has no arithmetic for; INT32 is left to the rule about biases."""
    fine = OTHER_PRECISIONS | {TensorProto.INT8, TensorProto.INT32, TensorProto.UNDEFINED}
    weights: list[tuple[str, str]] = []
    activations: list[tuple[str, str]] = []
    for site in graph.sites:
        if site.code not in fine:
            (weights if site.weight else activations).append((site.name, f"has {type_name(site.code)}"))
    yield from gathered("codes of activations are not INT8", activations)
    yield from gathered("codes of weights are not INT8", weights)


def other_precision(graph: Graph) -> list[Hit]:
    """Find codes of 4 bits or of FP8, which run in other kernels than INT8."""
    return gathered(
        "codes are of another precision than INT8",
        [
            (site.name, f"has {type_name(site.code)}" + (", one scale per block" if site.blocked else ""))
            for site in graph.sites
            if site.code in OTHER_PRECISIONS
        ],
    )


def scale_not_constant(graph: Graph) -> list[Hit]:
    """Find scales that are computed at run time."""
    return gathered(
        "scales are not constant",
        [(site.name, f"reads '{site.node.input[1]}'") for site in graph.sites if site.scale is None],
    )


def _values(sites: Iterable[Site], dtype: str | None = None) -> Iterator[tuple[Site, NDArray[np.float64]]]:
    for site in sites:
        if site.scale is not None and (dtype is None or site.scale.dtype.name == dtype):
            yield site, site.scale.astype(np.float64)


def scale_value(graph: Graph) -> list[Hit]:
    """Find scales that are not finite or not above 0, and scales without any value."""
    found = []
    for site, scale in _values(graph.sites):
        bad = scale[~(np.isfinite(scale) & (scale > 0))]
        if scale.size == 0:
            found.append((site.name, "has none"))
        elif bad.size:
            found.append((site.name, f"has {_worst(bad)}"))
    return gathered("scales are not finite and positive", found)


def scale_float16(graph: Graph) -> list[Hit]:
    """Find float16 scales below the smallest normal number, which have lost digits."""
    found = []
    for site, scale in _values(graph.sites, "float16"):
        small = scale[(scale > 0) & (scale < float(_FP16.tiny))]
        if small.size:
            found.append((site.name, f"has {_worst(small)}"))
    return gathered(f"float16 scales are below {float(_FP16.tiny):.3g}", found)


def scale_underflow(graph: Graph) -> list[Hit]:
    """Find float32 scales that would become 0, subnormal or infinite in float16."""
    found = []
    for site, scale in _values((site for site in graph.sites if site.code != TensorProto.INT32), "float32"):
        sound = scale[np.isfinite(scale) & (scale > 0)]
        lost = sound[(sound < float(_FP16.tiny)) | (sound > float(_FP16.max))]
        if lost.size:
            found.append((site.name, f"has {_worst(lost)}"))
    return gathered("float32 scales do not fit float16", found)
