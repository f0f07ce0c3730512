"""Rules about the axis of scales."""

from __future__ import annotations

from collections.abc import Iterator

from onnx import TensorProto

from yoloqat.linting.finding import Hit, gathered
from yoloqat.linting.graph import Graph
from yoloqat.linting.qdq_nodes import QdqNode
from yoloqat.linting.rules.qparams import OTHER_PRECISIONS

_FIRST_WITH_AXIS = 13


def activation_axis(graph: Graph) -> list[Hit]:
    """Find activations with more than one scale."""
    return gathered(
        "activations have a scale per channel",
        [
            (qdq.name, f"has {qdq.scale.size} scales")
            for qdq in graph.qdq_nodes
            if qdq.scale is not None and qdq.per_axis and not qdq.weight
        ],
    )


def blocked(graph: Graph) -> list[Hit]:
    """Find 8-bit Q/DQ with a scale for each block of values."""
    return gathered(
        "8-bit Q/DQ have scales of more than one axis or a block size",
        [
            (qdq.name, f"has scales of shape {qdq.scale.shape if qdq.scale is not None else '?'}")
            for qdq in graph.qdq_nodes
            if qdq.blocked and qdq.element_type not in OTHER_PRECISIONS
        ],
    )


def _axis(qdq: QdqNode, rank: int) -> int:
    return qdq.axis + rank if qdq.axis < 0 else qdq.axis


def weight_axis(graph: Graph) -> Iterator[Hit]:
    """Find scales per channel that do not lie along the output channels of the weight."""
    index = graph.index
    if index.opset is not None and index.opset < _FIRST_WITH_AXIS:
        return
    wanted = {layer.weight_dequantizer.name: layer for layer in graph.layers if layer.weight_dequantizer is not None}
    unfit, wrong = [], []
    for qdq in graph.qdq_nodes:
        shape = index.shape(qdq.data)
        if qdq.scale is None or not qdq.per_axis or not qdq.weight or qdq.blocked or shape is None:
            continue
        axis = _axis(qdq, len(shape))
        written = "" if qdq.axis_written else ", which the file leaves at its default"
        if not 0 <= axis < len(shape) or shape[axis] != qdq.scale.size:
            size = shape[axis] if 0 <= axis < len(shape) else "none"
            unfit.append((qdq.name, f"has {qdq.scale.size} scales along axis {qdq.axis} of size {size}{written}"))
            continue
        readers = [qdq, *graph.dequantizers(qdq)] if qdq.quantizes else [qdq]
        layers = [wanted[reader.name] for reader in readers if reader.name in wanted]
        expected = next((layer.weight_axis for layer in layers if layer.weight_axis is not None), None)
        if expected is not None and axis != expected and qdq.element_type != TensorProto.INT32:
            detail = (
                f"has its scales along axis {axis}{written}; output channels of '{layers[0].name}' are axis {expected}"
            )
            wrong.append((qdq.name, detail))
    yield from gathered("scales do not fit their axis", unfit)
    yield from gathered("scales lie along the wrong axis", wrong)
