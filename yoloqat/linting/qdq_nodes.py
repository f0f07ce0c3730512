"""The QuantizeLinear and DequantizeLinear nodes of a graph, with their qparams."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from yoloqat.onnx_graph.graph import attribute, label
from yoloqat.onnx_graph.index import Index
from yoloqat.onnx_graph.operators import QUANTIZE, QUANTIZERS, STANDARD

CONTRIB = "com.microsoft"
DOMAINS = STANDARD | {CONTRIB}
_DEFAULT_AXIS = 1


@dataclass(frozen=True)
class QdqNode:
    """One QuantizeLinear or DequantizeLinear.

    Attributes:
        name: Name of the node.
        node: The node.
        quantizes: Whether it is a QuantizeLinear.
        weight: Whether what it reads follows from constants alone.
        scale: The scales, None where they are not constant.
        zero_point: The zero-points, None where they are absent or not constant.
        zero_point_name: Name of the tensor of zero-points, empty where there is none.
        element_type: ONNX type of the quantized tensor, UNDEFINED where nothing in the file says it.
        axis: Axis of the scales, as written or as the operator's default.
        axis_written: Whether the file writes the axis.
        blocked: Whether there is a scale for each block of values along an axis.
    """

    name: str
    node: onnx.NodeProto
    quantizes: bool
    weight: bool
    scale: NDArray[np.generic] | None
    zero_point: NDArray[np.generic] | None
    zero_point_name: str
    element_type: int
    axis: int
    axis_written: bool
    blocked: bool

    @property
    def data(self) -> str:
        """Name of the tensor that is quantized or dequantized."""
        return str(self.node.input[0])

    @property
    def result(self) -> str:
        """Name of the tensor that comes out."""
        return str(self.node.output[0])

    @property
    def per_axis(self) -> bool:
        """Whether there is more than one scale."""
        return self.scale is not None and self.scale.size > 1


def is_qdq_node(node: onnx.NodeProto) -> bool:
    """Return whether the node is a QuantizeLinear or DequantizeLinear of ONNX or of ONNX Runtime's own domain."""
    return node.op_type in QUANTIZERS and node.domain in DOMAINS and len(node.input) >= 2 and bool(node.output)


def _element_type(index: Index, node: onnx.NodeProto, zero_point: str) -> int:
    """Return the type of the quantized tensor: of the zero-point, of the attribute, or its own."""
    if zero_point and index.kind(zero_point) != TensorProto.UNDEFINED:
        return index.kind(zero_point)
    if node.op_type == QUANTIZE:
        return attribute(node, "output_dtype", TensorProto.UNDEFINED)
    maker = index.maker(node.input[0], "Identity")
    if maker is not None and maker.op_type == QUANTIZE and is_qdq_node(maker):
        return _element_type(index, maker, maker.input[2] if len(maker.input) > 2 else "")
    return index.kind(node.input[0])


def _qdq_node(index: Index, node: onnx.NodeProto) -> QdqNode:
    point = node.input[2] if len(node.input) > 2 else ""
    scale = index.value(node.input[1])
    return QdqNode(
        name=label(node),
        node=node,
        quantizes=node.op_type == QUANTIZE,
        weight=node.input[0] in index.constant,
        scale=scale,
        zero_point=index.value(point) if point else None,
        zero_point_name=point,
        element_type=_element_type(index, node, point),
        axis=attribute(node, "axis", _DEFAULT_AXIS),
        axis_written=any(entry.name == "axis" for entry in node.attribute),
        blocked=attribute(node, "block_size", 0) > 0 or (scale is not None and scale.ndim > 1 and scale.size > 1),
    )


def find_qdq_nodes(index: Index) -> tuple[QdqNode, ...]:
    """Return the Q/DQ nodes of a graph, in its order."""
    return tuple(_qdq_node(index, node) for node in index.nodes if is_qdq_node(node))
