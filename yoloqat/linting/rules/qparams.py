"""Rules about scales, zero-points and the type of the integers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from yoloqat.linting.finding import Hit, gathered
from yoloqat.linting.graph import Graph
from yoloqat.linting.qdq_nodes import QdqNode
from yoloqat.results import counted

OTHER_PRECISIONS = frozenset(
    {
        TensorProto.INT4,
        TensorProto.FLOAT4E2M1,
        TensorProto.FLOAT8E4M3FN,
    }
)
"""Types that TensorRT dequantizes besides INT8."""

_FP16 = np.finfo(np.float16)


def type_name(kind: int) -> str:
    """Return the name of an ONNX element type, e.g. ``"UINT8"``."""
    return str(TensorProto.DataType.Name(kind)) if kind in TensorProto.DataType.values() else str(kind)


def _worst(values: NDArray[np.generic]) -> str:
    return f"{float(values.flat[0]):g}"


def _nonzero(qdq: QdqNode) -> NDArray[np.generic]:
    """Return the known zero-points of a node that are not 0."""
    points = np.zeros(0) if qdq.zero_point is None else qdq.zero_point
    found: NDArray[np.generic] = points[points.astype(np.float64) != 0]
    return found


def zero_point(graph: Graph) -> Iterator[Hit]:
    """Find zero-points that are not constant, absent from a QuantizeLinear, not one per scale, or not 0 and not meant to be."""
    absent, unknown, shifted, sizes = [], [], [], []
    for qdq in graph.qdq_nodes:
        points, nonzero = qdq.zero_point, _nonzero(qdq)
        if not qdq.zero_point_name:
            if qdq.quantizes and qdq.element_type == TensorProto.UNDEFINED:
                absent.append((qdq.name, ""))
        elif points is None:
            unknown.append((qdq.name, f"reads '{qdq.zero_point_name}'"))
        elif nonzero.size and not graph.zero_points_meant:
            shifted.append((qdq.name, f"has {_worst(nonzero)}"))
        elif qdq.scale is not None and points.size != qdq.scale.size:
            sizes.append((qdq.name, f"has {points.size} for {qdq.scale.size} scales"))
    yield from gathered("zero-points are not 0", shifted)
    yield from gathered("zero-points are absent, which ONNX reads as UINT8 and TensorRT as INT8", absent)
    yield from gathered("zero-points are not constant", unknown)
    yield from gathered("zero-points are not as many as scales", sizes)


def other_target(graph: Graph) -> Iterator[Hit]:
    """Find zero-points that are not 0 in a file that is meant to have them."""
    names = tuple(dict.fromkeys(qdq.name for qdq in graph.qdq_nodes if _nonzero(qdq).size))
    if graph.meant_for is not None and graph.zero_points_meant and names:
        nodes = f"{counted(len(names), 'node')} with a zero-point that is not 0"
        yield Hit(names, f"the file is for {graph.meant_for.title} and has {nodes}, which TensorRT refuses")


def element_type(graph: Graph) -> Iterator[Hit]:
    """Find Q/DQ of a type that the engine has no arithmetic for; INT32 is left to the rule about biases."""
    fine = OTHER_PRECISIONS | {TensorProto.INT8, TensorProto.INT32, TensorProto.UNDEFINED}
    weights: list[tuple[str, str]] = []
    activations: list[tuple[str, str]] = []
    for qdq in graph.qdq_nodes:
        if qdq.element_type not in fine:
            (weights if qdq.weight else activations).append((qdq.name, f"has {type_name(qdq.element_type)}"))
    yield from gathered("quantized activations are not INT8", activations)
    yield from gathered("quantized weights are not INT8", weights)


def other_precision(graph: Graph) -> list[Hit]:
    """Find Q/DQ of 4 bits or of FP8, which run in other kernels than INT8."""
    return gathered(
        "Q/DQ are of another precision than INT8",
        [
            (qdq.name, f"has {type_name(qdq.element_type)}" + (", one scale per block" if qdq.blocked else ""))
            for qdq in graph.qdq_nodes
            if qdq.element_type in OTHER_PRECISIONS
        ],
    )


def scale_not_constant(graph: Graph) -> list[Hit]:
    """Find scales that are computed at run time."""
    return gathered(
        "scales are not constant",
        [(qdq.name, f"reads '{qdq.node.input[1]}'") for qdq in graph.qdq_nodes if qdq.scale is None],
    )


def _values(qdq_nodes: Iterable[QdqNode], dtype: str | None = None) -> Iterator[tuple[QdqNode, NDArray[np.float64]]]:
    for qdq in qdq_nodes:
        if qdq.scale is not None and (dtype is None or qdq.scale.dtype.name == dtype):
            yield qdq, qdq.scale.astype(np.float64)


def scale_value(graph: Graph) -> list[Hit]:
    """Find scales that are not finite or not above 0, and scales without any value."""
    found = []
    for qdq, scale in _values(graph.qdq_nodes):
        bad = scale[~(np.isfinite(scale) & (scale > 0))]
        if scale.size == 0:
            found.append((qdq.name, "has none"))
        elif bad.size:
            found.append((qdq.name, f"has {_worst(bad)}"))
    return gathered("scales are not finite and positive", found)


def scale_float16(graph: Graph) -> list[Hit]:
    """Find float16 scales below the smallest normal number, which have lost digits."""
    found = []
    for qdq, scale in _values(graph.qdq_nodes, "float16"):
        small = scale[(scale > 0) & (scale < float(_FP16.tiny))]
        if small.size:
            found.append((qdq.name, f"has {_worst(small)}"))
    return gathered(f"float16 scales are below {float(_FP16.tiny):.3g}", found)


def scale_underflow(graph: Graph) -> list[Hit]:
    """Find float32 scales that would become 0, subnormal or infinite in float16."""
    found = []
    for qdq, scale in _values((qdq for qdq in graph.qdq_nodes if qdq.element_type != TensorProto.INT32), "float32"):
        sound = scale[np.isfinite(scale) & (scale > 0)]
        lost = sound[(sound < float(_FP16.tiny)) | (sound > float(_FP16.max))]
        if lost.size:
            found.append((qdq.name, f"has {_worst(lost)}"))
    return gathered("float32 scales do not fit float16", found)
