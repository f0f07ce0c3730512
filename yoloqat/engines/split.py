"""Convolutions whose products would overflow, taken apart into two that cannot."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SUFFIX = "/split"
"""What the name of a layer's second half ends with."""
_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})


def split_weights(model: onnx.ModelProto, layers: Collection[str]) -> onnx.ModelProto:
    """Split the weights of ``layers`` into two halves, convolve with each, and add.

    Codes w become floor(w / 2) and w - floor(w / 2), which lie in -64 to 64, so that two products with unsigned 8-bit
    activations always fit 16 bits. Integers stay exact and only the last float addition rounds. The layer costs twice
    as many multiply-adds.

    Args:
        model: A QDQ graph; it is not changed.
        layers: Names of convolutions with signed 8-bit weights; others are left as they are.

    Returns:
        The graph in which each such layer ``name`` has a second half ``name/split``.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    made = {name: node for node in graph.node for name in node.output}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        kept = onnx.NodeProto()
        kept.CopyFrom(node)
        weight = made.get(node.input[1]) if node.op_type in _CONVOLUTIONS and node.name in layers else None
        codes = constants.get(weight.input[0]) if weight is not None else None
        if weight is None or codes is None or codes.data_type != TensorProto.INT8:
            nodes.append(kept)
            continue
        halves, constants_of_halves = _halves(kept, weight, numpy_helper.to_array(codes))
        nodes.extend(halves)
        graph.initializer.extend(constants_of_halves)
    del graph.node[:]
    graph.node.extend(nodes)
    _drop_idle_weights(graph)
    return result


def _halves(
    node: onnx.NodeProto, weight: onnx.NodeProto, codes: np.ndarray[tuple[int, ...], np.dtype[np.int8]]
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    low = codes >> 1  # an arithmetic shift, so it rounds down
    parts = {"": low, SUFFIX: codes - low}
    output = node.output[0]
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []
    for suffix, values in parts.items():
        prefix = f"{node.name}/half{suffix}"
        dequantizer, half = onnx.NodeProto(), onnx.NodeProto()
        dequantizer.CopyFrom(weight)
        half.CopyFrom(node)
        constants.append(numpy_helper.from_array(values, f"{prefix}/codes"))
        dequantizer.input[0], dequantizer.output[0] = f"{prefix}/codes", f"{prefix}/weight"
        dequantizer.name = f"{prefix}/DequantizeLinear"
        half.input[1], half.output[0] = f"{prefix}/weight", f"{prefix}/output"
        half.name = f"{node.name}{suffix}"
        if suffix:
            del half.input[2:]  # the bias is added once
            del dequantizer.input[2:]  # and so is the zero-point
        nodes += [dequantizer, half]
    sums = [f"{node.name}/half/output", f"{node.name}/half{SUFFIX}/output"]
    nodes.append(helper.make_node("Add", sums, [output], name=f"{node.name}/Add"))
    return nodes, constants


def _drop_idle_weights(graph: onnx.GraphProto) -> None:
    """Remove the dequantizers of weights that nothing reads any more, with their constants."""
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    idle = [node for node in graph.node if node.op_type == "DequantizeLinear" and node.output[0] not in read]
    for node in idle:
        graph.node.remove(node)
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
