"""Passes that put quantizers on the inputs of layers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import onnx
from onnx import helper, numpy_helper

from yoloqat.errors import ExportError
from yoloqat.export.checks import check_numbers, scale_tensor, zero_point_tensor
from yoloqat.export.graph import (
    DEQUANTIZE,
    QUANTIZE,
    PassResult,
    consumers,
    copy_of,
    initializers,
    remove_unread_initializers,
    replace_nodes,
)
from yoloqat.export.layers import nodes_of
from yoloqat.quant.numbers import LayerNumbers, TensorNumbers


@dataclass(frozen=True)
class Sharing:
    """What :func:`share_quantizers` gives back.

    Attributes:
        model: The model with one Q/DQ pair per tensor and numbers.
        modified: Whether pairs were joined.
        aliases: Name of each removed QuantizeLinear, to the name of the one that took its place.
    """

    model: onnx.ModelProto
    modified: bool
    aliases: dict[str, str]


def _pair(prefix: str, tensor: str, numbers: TensorNumbers) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    scale, point = f"{prefix}/scale", f"{prefix}/zero_point"
    codes, output = f"{prefix}/codes", f"{prefix}/dequantized"
    nodes = [
        helper.make_node(QUANTIZE, [tensor, scale, point], [codes], name=f"{prefix}/{QUANTIZE}"),
        helper.make_node(DEQUANTIZE, [codes, scale, point], [output], name=f"{prefix}/{DEQUANTIZE}"),
    ]
    return nodes, [scale_tensor(scale, numbers), zero_point_tensor(point, numbers)]


def insert_input_quantizers(model: onnx.ModelProto, layers: Sequence[LayerNumbers]) -> PassResult:
    """Put a QuantizeLinear and a DequantizeLinear before every node of each layer whose input has numbers.

    The nodes are named ``<layer>/input/QuantizeLinear`` and ``<layer>/input/DequantizeLinear``; a module that is
    applied again has ``<layer>_1/input/...``. Scales are scalar float32, zero-points int8, or uint8 where the scheme is
    unsigned.

    Requires:
        Float weights are initialisers by which the layers are found; no layer's input is quantized yet.

    Ensures:
        Each of those nodes reads a DequantizeLinear; no tensor that another node reads has changed its name; nodes are
        in topological order.

    Raises:
        ExportError: A layer is not in the graph, is quantized already, or its numbers cannot be written.
    """
    for layer in layers:
        check_numbers(layer)
    wanted = {layer.name: layer.input for layer in layers if layer.input is not None}
    found = nodes_of(model, [layer.name for layer in layers])
    if not wanted:
        return PassResult(model, modified=False)
    result = copy_of(model)
    graph = result.graph
    made = {name: node.op_type for node in graph.node for name in node.output}
    plan = {index: (name, turn) for name in wanted for turn, index in enumerate(found[name])}
    nodes: list[onnx.NodeProto] = []
    for index, node in enumerate(graph.node):
        if index in plan:
            name, turn = plan[index]
            numbers = wanted[name]
            if made.get(node.input[0]) == DEQUANTIZE:
                raise ExportError(
                    f"input '{node.input[0]}' of layer '{name}' is quantized already",
                    expected="a float graph",
                    mend="export from the traced model",
                )
            prefix = f"{name}_{turn}/input" if turn else f"{name}/input"
            pair, constants = _pair(prefix, node.input[0], numbers)
            node.input[0] = pair[1].output[0]
            graph.initializer.extend(constants)
            nodes.extend(pair)
        nodes.append(node)
    replace_nodes(graph, nodes)
    return PassResult(result, modified=True)


def share_quantizers(model: onnx.ModelProto) -> Sharing:
    """Join the Q/DQ pairs that read the same tensor with equal numbers into the first of them.

    Requires:
        Nodes are in topological order.

    Ensures:
        No two QuantizeLinear nodes read the same tensor with equal scale, zero-point and attributes; the values that
        every layer reads are unchanged; constants that nothing reads any more are gone.
    """
    constants = {name: (t.data_type, tuple(t.dims), _bytes(t)) for name, t in initializers(model.graph).items()}
    readers = consumers(model.graph)
    groups: dict[tuple[object, ...], list[onnx.NodeProto]] = defaultdict(list)
    for node in model.graph.node:
        if node.op_type == QUANTIZE and node.input[0] not in constants:
            attributes = tuple(sorted(a.SerializeToString(deterministic=True) for a in node.attribute))
            numbers = tuple(constants.get(name, name) for name in node.input[1:])
            groups[(node.input[0], attributes, numbers)].append(node)
    aliases: dict[str, str] = {}
    renamed: dict[str, str] = {}
    dropped: set[str] = set()
    for first, *others in groups.values():
        kept = next((n for n in readers.get(first.output[0], []) if n.op_type == DEQUANTIZE), None)
        for other in others:
            aliases[other.name] = first.name
            renamed[other.output[0]] = first.output[0]
            dropped.add(other.output[0])
            for reader in readers.get(other.output[0], []):
                if reader.op_type == DEQUANTIZE and kept is not None:
                    renamed[reader.output[0]] = kept.output[0]
                    dropped.add(reader.output[0])
    if not aliases:
        return Sharing(model, modified=False, aliases={})
    result = copy_of(model)
    graph = result.graph
    nodes = [node for node in graph.node if node.output[0] not in dropped]
    unread = [name for node in graph.node if node.output[0] in dropped for name in node.input[1:]]
    for node in nodes:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    replace_nodes(graph, nodes)
    remove_unread_initializers(graph, unread)
    return Sharing(result, modified=True, aliases=aliases)


def _bytes(tensor: onnx.TensorProto) -> bytes:
    return numpy_helper.to_array(tensor).tobytes()
