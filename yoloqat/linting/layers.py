"""The weighted layers of a graph, and which of their inputs are quantized."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from yoloqat.linting.qdq_nodes import QdqNode
from yoloqat.onnx_graph.graph import attribute, label
from yoloqat.onnx_graph.index import Index, permutation
from yoloqat.onnx_graph.operators import CONVOLUTIONS, LAYER_OPS, STANDARD, moves_values


@dataclass(frozen=True)
class Layer:
    """A convolution, transposed convolution, Gemm or MatMul.

    Attributes:
        name: Name of the node.
        node: The node.
        data: Name of the activation that it reads.
        weight: Name of its weight, or of a MatMul's second activation.
        bias: Name of its bias, empty where it has none.
        data_quantized: Whether the activation is dequantized, directly or before what only moves values.
        weight_quantized: Whether the weight is.
        weight_constant: Whether the weight follows from constants alone.
        weight_dequantizer: What dequantizes the weight.
        weight_axis: Axis of the output channels in the tensor that ``weight_dequantizer`` reads; None where unknown.
        shape: Shape of the weight as the node reads it; None where unknown.
        group: Number of groups of a convolution, 1 elsewhere.
    """

    name: str
    node: onnx.NodeProto
    data: str
    weight: str
    bias: str
    data_quantized: bool
    weight_quantized: bool
    weight_constant: bool
    weight_dequantizer: QdqNode | None
    weight_axis: int | None
    shape: tuple[int, ...] | None
    group: int

    @property
    def quantized(self) -> bool:
        """Whether both inputs are quantized, so that an engine can run it in integers."""
        return self.data_quantized and self.weight_quantized

    @property
    def convolution(self) -> bool:
        """Whether it is a convolution or a transposed one."""
        return self.node.op_type in CONVOLUTIONS

    @property
    def channels(self) -> tuple[int, int] | None:
        """Input and output channels of a convolution; None elsewhere or where unknown."""
        if not self.convolution or self.shape is None or len(self.shape) < 3:
            return None
        first, second = self.shape[:2]
        if self.node.op_type == "ConvTranspose":
            return first, second * self.group
        return second * self.group, first

    @property
    def depthwise(self) -> bool:
        """Whether each group of a convolution has a single input channel."""
        return self.group > 1 and self.channels is not None and self.channels[0] == self.group


def dequantized_tensors(index: Index, qdq_nodes: Mapping[str, QdqNode]) -> frozenset[str]:
    """Return the tensors that hold dequantized values: what a DequantizeLinear gives, and what only moves it.

    Args:
        index: The graph.
        qdq_nodes: The graph's Q/DQ nodes by the tensor they give.
    """
    found: set[str] = set()
    for node in index.nodes:
        if not node.output:
            continue
        qdq = qdq_nodes.get(node.output[0])
        if qdq is not None:
            found.update([qdq.result] if not qdq.quantizes else [])
        elif moves_values(node) and node.input and node.input[0] in found:
            found.update(node.output)
        elif node.op_type == "Concat":
            read = [name for name in node.input if name not in index.constant]
            if read and all(name in found for name in read):
                found.update(node.output)
    return frozenset(found)


def _output_axis(node: onnx.NodeProto, rank: int, *, first: bool) -> int:
    """Return the axis of the output channels in the weight, as ``node`` reads it."""
    if node.op_type == "ConvTranspose":
        return 1
    if node.op_type == "Gemm":
        return 0 if attribute(node, "transB", 0) else 1
    if node.op_type == "MatMul":
        return rank - 2 if first else rank - 1
    return 0


def _weight(
    index: Index, layer: onnx.NodeProto, tensor: str, qdq_nodes: Mapping[str, QdqNode]
) -> tuple[QdqNode | None, int | None]:
    """Return what dequantizes a weight, and the axis of its output channels there."""
    shape = index.shape(tensor)
    axis = None if shape is None else _output_axis(layer, len(shape), first=tensor == layer.input[0])
    while (node := index.made.get(tensor)) is not None and node.input:
        qdq = qdq_nodes.get(tensor)
        if qdq is not None:
            return (None if qdq.quantizes else qdq), axis
        if node.op_type == "Transpose" and axis is not None and shape is not None:
            order = permutation(node, len(shape))
            axis = order[axis] if order else None
        elif node.op_type not in ("Identity", "Cast"):
            axis = None
        tensor = node.input[0]
    return None, None


def find_layers(index: Index, qdq_nodes: Mapping[str, QdqNode], dequantized: frozenset[str]) -> tuple[Layer, ...]:
    """Return the weighted layers of a graph, in its order.

    Args:
        index: The graph.
        qdq_nodes: The graph's Q/DQ nodes by the tensor they give.
        dequantized: What :func:`dequantized_tensors` returns.
    """
    found = []
    for node in index.nodes:
        if node.op_type not in LAYER_OPS or node.domain not in STANDARD or len(node.input) < 2 or not node.output:
            continue
        data, weight = node.input[0], node.input[1]
        if node.op_type == "MatMul" and data in index.constant:
            data, weight = weight, data
        qdq, axis = _weight(index, node, weight, qdq_nodes) if weight in index.constant else (None, None)
        found.append(
            Layer(
                name=label(node),
                node=node,
                data=data,
                weight=weight,
                bias=node.input[2] if len(node.input) > 2 else "",
                data_quantized=data in dequantized,
                weight_quantized=qdq is not None or weight in dequantized,
                weight_constant=weight in index.constant,
                weight_dequantizer=qdq,
                weight_axis=axis,
                shape=index.shape(weight),
                group=attribute(node, "group", 1),
            )
        )
    return tuple(found)
