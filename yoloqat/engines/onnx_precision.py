"""In what an ONNX file computes, by its operators and the types of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx
from onnx import NodeProto, TensorProto

from yoloqat.onnx_graph.graph import attribute
from yoloqat.onnx_graph.index import Index, index_of
from yoloqat.onnx_graph.operators import DEQUANTIZE, LAYER_OPS, VIEWS

_FLOAT_OPS = LAYER_OPS | {"FusedConv", "FusedMatMul", "FusedGemm"}
_INTEGER_OPS = frozenset(
    [
        "QLinearConv",
        "QLinearMatMul",
        "ConvInteger",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "DynamicQuantizeMatMul",
        "QGemm",
    ]
)
"""Operators that multiply integers, of ONNX and of com.microsoft."""

UNKNOWN = "unknown"
_NAMES = {"FLOAT": "float32", "DOUBLE": "float64"}


@dataclass(frozen=True)
class WeightedOps:
    """The nodes that multiply by weights.

    Attributes:
        integer: Nodes that multiply integers.
        qdq: Nodes that read a dequantized input and a dequantized weight.
        weight_only: Nodes that read a dequantized weight alone.
        floats: The type of the weights of each of the others, e.g. ``"float16"``.
        weights: The type of dequantized weights, e.g. ``"int8"``; the first found.
    """

    integer: int
    qdq: int
    weight_only: int
    floats: tuple[str, ...]
    weights: str | None

    @property
    def label(self) -> str:
        """What to call the model: ``"int8 57/64"``, ``"QDQ"``, ``"int8 weights"``, ``"float16"`` or what is mixed of them."""
        kinds = " + ".join(sorted(set(self.floats) - {UNKNOWN}))
        if self.integer:
            return f"int8 {self.integer}/{self.integer + self.qdq + self.weight_only + len(self.floats)}"
        kind = self.weights or "int8"
        if self.qdq:
            wide = "QDQ" if kind.endswith("int8") else f"QDQ {kind}"
            return wide if kinds in ("", "float32") else f"{wide}, {kinds}"
        if self.weight_only:
            return f"{kind} weights"
        return kinds or "not told"


def weighted_ops(model: onnx.ModelProto) -> WeightedOps:
    """Return what the weighted nodes of a graph, of the graphs inside it and of its functions multiply."""
    index = index_of(model)
    types = {name: tensor.data_type for name, tensor in index.tensors.items()}
    types |= {value.name: value.type.tensor_type.elem_type for value in (*model.graph.value_info, *model.graph.input)}
    integer = qdq = weight_only = 0
    floats: list[str] = []
    kind = None
    for node in index.nodes:
        if node.op_type in _INTEGER_OPS:
            integer += 1
        elif node.op_type in _FLOAT_OPS and len(node.input) > 1:
            data, weight = (_dequantized(index, name) for name in node.input[:2])
            if weight is None:
                # products of two activations, as in attention, have no weight
                if "Conv" in node.op_type or index.origin(node.input[1], *VIEWS) in index.tensors:
                    floats.append(_name(_type(index, node.input[1], types)))
                continue
            qdq, weight_only = qdq + (data is not None), weight_only + (data is None)
            kind = kind or _name(_type(index, weight.input[0], types))
        elif node.op_type == "MatMulNBits":
            weight_only += 1
            kind = kind or f"int{attribute(node, 'bits', 4)}"
    return WeightedOps(integer, qdq, weight_only, tuple(floats), kind if kind != UNKNOWN else None)


def _dequantized(index: Index, tensor: str) -> NodeProto | None:
    """Return the DequantizeLinear that a tensor comes from, casts and moves aside."""
    node = index.maker(tensor, *VIEWS)
    return node if node is not None and node.op_type == DEQUANTIZE else None


def _type(index: Index, tensor: str, types: Mapping[str, int]) -> int:
    """Return the element type of a tensor, 0 where the graph does not tell."""
    node = index.made.get(tensor)
    while not types.get(tensor) and node is not None and node.input:
        if node.op_type == "Cast":
            return attribute(node, "to", 0)
        tensor = node.input[0]
        node = index.made.get(tensor)
    return types.get(tensor, 0)


def _name(kind: int) -> str:
    if kind == 0:
        return UNKNOWN
    text = str(TensorProto.DataType.Name(kind))
    return _NAMES.get(text, text.lower())
