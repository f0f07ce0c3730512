"""In what an ONNX file computes, by its operators and the types of its weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx
from onnx import AttributeProto, NodeProto, TensorProto

_FLOAT_OPS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "FusedConv", "FusedMatMul", "FusedGemm"})
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
_CAST = frozenset({"Cast", "Identity", "Reshape", "Transpose"})


@dataclass(frozen=True)
class WeightedOps:
    """The nodes that multiply by weights.

    Attributes:
        integer: Nodes that multiply integers.
        qdq: Nodes that read a dequantized input and a dequantized weight.
        weight_only: Nodes that read a dequantized weight alone.
        floats: The type of the weights of each of the others, e.g. ``"float16"``.
        code: The type of the codes of dequantized weights, e.g. ``"int8"``; the first found.
    """

    integer: int
    qdq: int
    weight_only: int
    floats: tuple[str, ...]
    code: str | None

    @property
    def label(self) -> str:
        """What to call the model: ``"int8 57/64"``, ``"QDQ"``, ``"int8 weights"``, ``"float16"`` or what is mixed of them."""
        kinds = " + ".join(sorted(set(self.floats) - {UNKNOWN}))
        if self.integer:
            return f"int8 {self.integer}/{self.integer + self.qdq + self.weight_only + len(self.floats)}"
        code = self.code or "int8"
        if self.qdq:
            wide = "QDQ" if code.endswith("int8") else f"QDQ {code}"
            return wide if kinds in ("", "float32") else f"{wide}, {kinds}"
        if self.weight_only:
            return f"{code} weights"
        return kinds or "not told"


def weighted_ops(model: onnx.ModelProto) -> WeightedOps:
    """Return what the weighted nodes of a graph, of the graphs inside it and of its functions multiply."""
    nodes = [
        node for part in (model.graph.node, *(function.node for function in model.functions)) for node in _all(part)
    ]
    producer = {name: node for node in nodes for name in node.output if name}
    types = {tensor.name: tensor.data_type for graph in _graphs(model.graph) for tensor in graph.initializer}
    types |= {value.name: value.type.tensor_type.elem_type for value in (*model.graph.value_info, *model.graph.input)}
    constants = {tensor.name for graph in _graphs(model.graph) for tensor in graph.initializer}
    integer = qdq = weight_only = 0
    floats: list[str] = []
    code = None
    for node in nodes:
        if node.op_type in _INTEGER_OPS:
            integer += 1
        elif node.op_type in _FLOAT_OPS and len(node.input) > 1:
            data, weight = (_dequantized(name, producer) for name in node.input[:2])
            if weight is None:
                if "Conv" in node.op_type or _is_constant(node.input[1], producer, constants):
                    floats.append(_name(_type(node.input[1], producer, types)))
                continue
            qdq, weight_only = qdq + (data is not None), weight_only + (data is None)
            code = code or _name(_type(weight.input[0], producer, types))
        elif node.op_type == "MatMulNBits":
            weight_only += 1
            code = code or f"int{next((x.i for x in node.attribute if x.name == 'bits'), 4)}"
    return WeightedOps(integer, qdq, weight_only, tuple(floats), code if code != UNKNOWN else None)


def _all(nodes: Iterator[NodeProto] | list[NodeProto]) -> Iterator[NodeProto]:
    for node in nodes:
        yield node
        for graph in _inner(node):
            yield from _all(list(graph.node))


def _inner(node: NodeProto) -> list[onnx.GraphProto]:
    return [entry.g for entry in node.attribute if entry.type == AttributeProto.GRAPH]


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for part in _inner(node):
            yield from _graphs(part)


def _dequantized(name: str, producer: dict[str, NodeProto]) -> NodeProto | None:
    """Return the DequantizeLinear that a value comes from, casts and moves aside."""
    for _ in range(8):
        node = producer.get(name)
        if node is None or node.op_type == "DequantizeLinear":
            return node
        if node.op_type not in _CAST:
            return None
        name = node.input[0]
    return None


def _is_constant(name: str, producer: dict[str, NodeProto], constants: set[str]) -> bool:
    """Return whether a value is a weight: products of two activations, as in attention, have none."""
    for _ in range(8):
        node = producer.get(name)
        if node is None or node.op_type not in _CAST:
            return name in constants or (node is not None and node.op_type == "Constant")
        name = node.input[0]
    return False


def _type(name: str, producer: dict[str, NodeProto], types: dict[str, int]) -> int:
    """Return the element type of a value, 0 where the graph does not tell."""
    for _ in range(8):
        node = producer.get(name)
        if types.get(name) or node is None:
            return types.get(name, 0)
        found = {entry.name: entry for entry in node.attribute}
        if node.op_type == "Cast" and "to" in found:
            return int(found["to"].i)
        if node.op_type == "Constant" and "value" in found:
            return int(found["value"].t.data_type)
        if not node.input:
            return 0
        name = node.input[0]
    return 0


def _name(kind: int) -> str:
    if kind == 0:
        return UNKNOWN
    text = str(TensorProto.DataType.Name(kind))
    return _NAMES.get(text, text.lower())
