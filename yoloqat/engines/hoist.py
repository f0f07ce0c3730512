"""Quantizers moved up through operators that only move values, so that the values move as codes.

A quantizer behind a concatenation gives the same codes as that quantizer before each of its inputs, and so it is with splits,
nearest resizing and, as quantization never reverses an order, with max-pooling. TensorRT moves them by itself; OpenVINO
computes such operators in integers only where their inputs are quantized.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx
from onnx import numpy_helper

_QUANTIZE, _DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
_MOVING = frozenset({"Concat", "MaxPool", "Split"})


def moves_values(node: onnx.NodeProto) -> bool:
    """Return whether each output element of ``node`` is one of its input elements, or their greatest."""
    mode = next((attribute.s for attribute in node.attribute if attribute.name == "mode"), b"nearest")
    return node.op_type in _MOVING or (node.op_type == "Resize" and mode == b"nearest")


def data_inputs(node: onnx.NodeProto) -> list[str]:
    """Return the inputs of an operator that moves values which are those values."""
    return list(node.input) if node.op_type == "Concat" else list(node.input[:1])


@dataclass(frozen=True)
class _Unit:
    """A quantizer of one tensor: perhaps a Clip, a QuantizeLinear, and DequantizeLinears that alone read the codes."""

    nodes: tuple[onnx.NodeProto, ...]
    numbers: tuple[object, ...]

    @property
    def values(self) -> list[str]:
        """The tensors of dequantized values."""
        return [node.output[0] for node in self.nodes if node.op_type == _DEQUANTIZE]


class _Graph:
    """Who reads what, kept up to date while nodes come and go."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.nodes: list[onnx.NodeProto] = []
        for node in graph.node:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            self.nodes.append(copy)
        self.constants = {tensor.name: numpy_helper.to_array(tensor).tobytes() for tensor in graph.initializer}
        self.outputs = {value.name for value in graph.output}

    def readers(self, name: str) -> list[onnx.NodeProto]:
        return [node for node in self.nodes if name in node.input]

    def unit(self, reader: onnx.NodeProto) -> _Unit | None:
        """Return the quantizer that starts with ``reader``, or None where it is none."""
        nodes: list[onnx.NodeProto] = [reader]
        numbers: list[object] = []
        if reader.op_type == "Clip":
            behind = self.readers(reader.output[0])
            if len(behind) != 1 or any(name and name not in self.constants for name in reader.input[1:]):
                return None
            numbers += [self.constants.get(name) for name in reader.input[1:]]
            nodes.append(behind[0])
        quantizer = nodes[-1]
        if quantizer.op_type != _QUANTIZE or any(name not in self.constants for name in quantizer.input[1:]):
            return None
        behind = self.readers(quantizer.output[0])
        if not behind or any(node.op_type != _DEQUANTIZE for node in behind):
            return None
        if {quantizer.output[0], *(node.output[0] for node in behind)} & self.outputs:
            return None
        numbers += [reader.op_type == "Clip", *(self.constants[name] for name in quantizer.input[1:])]
        return _Unit((*nodes, *behind), tuple(numbers))


def hoist_quantizers(model: onnx.ModelProto) -> onnx.ModelProto:
    """Move quantizers up through operators that only move values, where all that reads those agrees.

    Args:
        model: A QDQ graph in topological order; it is not changed.

    Returns:
        The graph; its outputs equal those of ``model`` bit for bit.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = _Graph(result.graph)
    for node in reversed(list(graph.nodes)):
        if moves_values(node):
            _hoist(graph, node)
    del result.graph.node[:]
    result.graph.node.extend(graph.nodes)
    return result


def _hoist(graph: _Graph, node: onnx.NodeProto) -> None:
    if any(name in graph.outputs or name in graph.constants for name in (*node.output, *data_inputs(node))):
        return
    units = [graph.unit(reader) for name in node.output for reader in graph.readers(name)]
    first = units[0] if units else None
    if first is None or any(unit is None or unit.numbers != first.numbers for unit in units):
        return
    renamed: dict[str, str] = {}
    for unit in units:
        if unit is not None:
            renamed |= dict.fromkeys(unit.values, unit.nodes[0].input[0])
            for part in unit.nodes:
                graph.nodes.remove(part)
    for reader in graph.nodes:
        for index, name in enumerate(reader.input):
            reader.input[index] = renamed.get(name, name)
    for index, name in enumerate(data_inputs(node)):
        node.input[index] = _quantized(graph, name, first, before=node)


def _quantized(graph: _Graph, name: str, like: _Unit, *, before: onnx.NodeProto) -> str:
    """Return ``name`` quantized as ``like`` does, by the quantizer that is there already or by a new one."""
    for reader in graph.readers(name):
        known = graph.unit(reader)
        if known is not None and known.numbers == like.numbers:
            _move(graph, known, before=before)
            return known.values[0]
    copies, source = _copies(name, like), name
    for copy in copies:
        copy.input[0], source = source, copy.output[0]
    position = graph.nodes.index(before)
    graph.nodes[position:position] = copies
    return source


def _move(graph: _Graph, unit: _Unit, *, before: onnx.NodeProto) -> None:
    """See that a quantizer stands before a node that will read it."""
    position = graph.nodes.index(before)
    late = [part for part in unit.nodes if graph.nodes.index(part) > position]
    for part in late:
        graph.nodes.remove(part)
    graph.nodes[position:position] = late


def _copies(name: str, like: _Unit) -> list[onnx.NodeProto]:
    """Return the nodes of a quantizer for another tensor, with one DequantizeLinear."""
    copies: list[onnx.NodeProto] = []
    for part in like.nodes:
        if copies and copies[-1].op_type == _DEQUANTIZE:
            break
        copy = onnx.NodeProto()
        copy.CopyFrom(part)
        copy.name = f"{name}/{part.op_type}"
        copy.output[0] = f"{name}/{part.op_type}/output"
        copies.append(copy)
    return copies


def same_codes(model: onnx.ModelProto) -> dict[str, str]:
    """Return by name of each activation's QuantizeLinear what it shares codes with once quantizers are hoisted.

    Those share whose tensors are joined by operators that only move values, and whose scales are equal.

    Args:
        model: A QDQ graph in topological order.
    """
    constants = {tensor.name: numpy_helper.to_array(tensor).tobytes() for tensor in model.graph.initializer}
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.get(name, name) != name:
            name = parent[name]
        return name

    def join(names: list[str]) -> None:
        for name in names[1:]:
            parent[root(name)] = root(names[0])

    for node in model.graph.node:
        if moves_values(node):
            join([*data_inputs(node), *node.output])
        elif node.op_type in (_QUANTIZE, _DEQUANTIZE) and node.input[0] not in constants:
            join([node.input[0], node.output[0]])
    return _keys(model, constants, {name: root(name) for node in model.graph.node for name in node.input})


def _keys(model: onnx.ModelProto, constants: Mapping[str, bytes], roots: Mapping[str, str]) -> dict[str, str]:
    return {
        node.name: f"{roots[node.input[0]]} {constants.get(node.input[1], b'').hex()}"
        for node in model.graph.node
        if node.op_type == _QUANTIZE
    }
