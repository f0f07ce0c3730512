"""Q/DQ propagated backward across operators that pass values on, so that those move integers.

A quantizer behind a concatenation gives the same integers as that quantizer before each of its inputs, and so it is with splits,
nearest resizing and, as quantization never reverses an order, with max-pooling. TensorRT propagates by itself; OpenVINO
computes such operators in integers only where their inputs are quantized.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx
from onnx import numpy_helper

from yoloqat.onnx_graph.graph import copy_of, initializers, replace_nodes
from yoloqat.onnx_graph.groups import Groups
from yoloqat.onnx_graph.operators import DEQUANTIZE, QUANTIZE, QUANTIZERS, data_inputs, propagates_quantizers


@dataclass(frozen=True)
class _Unit:
    """A quantizer of one tensor: perhaps a Clip, a QuantizeLinear, and DequantizeLinears that alone read the integers."""

    nodes: tuple[onnx.NodeProto, ...]
    qparams: tuple[object, ...]

    @property
    def values(self) -> list[str]:
        """The tensors of dequantized values."""
        return [node.output[0] for node in self.nodes if node.op_type == DEQUANTIZE]


def _bytes_of(graph: onnx.GraphProto) -> dict[str, bytes]:
    return {name: numpy_helper.to_array(tensor).tobytes() for name, tensor in initializers(graph).items()}


class _Graph:
    """Who reads what, kept up to date while nodes come and go."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.nodes = [copy_of(node) for node in graph.node]
        self.constants = _bytes_of(graph)
        self.outputs = {value.name for value in graph.output}

    def readers(self, name: str) -> list[onnx.NodeProto]:
        return [node for node in self.nodes if name in node.input]

    def unit(self, reader: onnx.NodeProto) -> _Unit | None:
        """Return the quantizer that starts with ``reader``, or None where it is none."""
        nodes: list[onnx.NodeProto] = [reader]
        qparams: list[object] = []
        if reader.op_type == "Clip":
            behind = self.readers(reader.output[0])
            if len(behind) != 1 or any(name and name not in self.constants for name in reader.input[1:]):
                return None
            qparams += [self.constants.get(name) for name in reader.input[1:]]
            nodes.append(behind[0])
        quantizer = nodes[-1]
        if quantizer.op_type != QUANTIZE or any(name not in self.constants for name in quantizer.input[1:]):
            return None
        behind = self.readers(quantizer.output[0])
        if not behind or any(node.op_type != DEQUANTIZE for node in behind):
            return None
        if {quantizer.output[0], *(node.output[0] for node in behind)} & self.outputs:
            return None
        qparams += [reader.op_type == "Clip", *(self.constants[name] for name in quantizer.input[1:])]
        return _Unit((*nodes, *behind), tuple(qparams))


def propagate_quantizers(model: onnx.ModelProto) -> onnx.ModelProto:
    """Propagate quantizers backward across operators that pass values on, where all that reads those agrees.

    Args:
        model: A QDQ graph in topological order; it is not changed.

    Returns:
        The graph; its outputs equal those of ``model`` bit for bit.
    """
    result = copy_of(model)
    graph = _Graph(result.graph)
    for node in reversed(list(graph.nodes)):
        if propagates_quantizers(node):
            _propagate(graph, node)
    replace_nodes(result.graph, graph.nodes)
    return result


def _propagate(graph: _Graph, node: onnx.NodeProto) -> None:
    if any(name in graph.outputs or name in graph.constants for name in (*node.output, *data_inputs(node))):
        return
    units = [graph.unit(reader) for name in node.output for reader in graph.readers(name)]
    first = units[0] if units else None
    if first is None or any(unit is None or unit.qparams != first.qparams for unit in units):
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
        if known is not None and known.qparams == like.qparams:
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
        if copies and copies[-1].op_type == DEQUANTIZE:
            break
        copy = copy_of(part)
        copy.name = f"{name}/{part.op_type}"
        copy.output[0] = f"{name}/{part.op_type}/output"
        copies.append(copy)
    return copies


def shared_scale_groups(model: onnx.ModelProto) -> dict[str, str]:
    """Return by name of each activation's QuantizeLinear the group that has the same qparams once quantizers are propagated.

    A group is of tensors that are joined by operators across which quantizers propagate, and whose scales are equal.

    Args:
        model: A QDQ graph in topological order.
    """
    constants, groups = _bytes_of(model.graph), Groups()
    for node in model.graph.node:
        if propagates_quantizers(node):
            groups.join(*data_inputs(node), *node.output)
        elif node.op_type in QUANTIZERS and node.input[0] not in constants:
            groups.join(node.input[0], node.output[0])
    return {
        node.name: f"{groups.root(node.input[0])} {constants.get(node.input[1], b'').hex()}"
        for node in model.graph.node
        if node.op_type == QUANTIZE
    }
