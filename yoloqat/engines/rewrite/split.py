"""Convolutions whose products would overflow, taken apart into two that cannot."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from yoloqat.onnx_graph.graph import copy_of, initializers, producers, remove_unread_initializers, replace_nodes
from yoloqat.onnx_graph.operators import CONVOLUTIONS, DEQUANTIZE

SUFFIX = "/split"
"""What the name of a layer's second half ends with."""


def split_weights(model: onnx.ModelProto, layers: Collection[str]) -> onnx.ModelProto:
    """Split the weights of ``layers`` into two halves, convolve with each, and add.

    Integers w become floor(w / 2) and w - floor(w / 2), which lie in -64 to 64, so that two products with unsigned 8-bit
    activations always fit 16 bits. Integer sums stay exact and only the last float addition rounds. The layer costs twice
    as many multiply-adds.

    Args:
        model: A QDQ graph; it is not changed.
        layers: Names of convolutions with signed 8-bit weights; others are left as they are.

    Returns:
        The graph in which each such layer ``name`` has a second half ``name/split``.
    """
    result = copy_of(model)
    graph = result.graph
    constants, made = initializers(graph), producers(graph)
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        weight = made.get(node.input[1]) if node.op_type in CONVOLUTIONS and node.name in layers else None
        integers = constants.get(weight.input[0]) if weight is not None else None
        if weight is None or integers is None or integers.data_type != TensorProto.INT8:
            nodes.append(node)
            continue
        halves, constants_of_halves = _halves(node, weight, numpy_helper.to_array(integers))
        nodes.extend(halves)
        graph.initializer.extend(constants_of_halves)
    replace_nodes(graph, nodes)
    _remove_unread_weights(graph)
    return result


def _halves(
    node: onnx.NodeProto, weight: onnx.NodeProto, integers: np.ndarray[tuple[int, ...], np.dtype[np.int8]]
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    low = integers >> 1  # an arithmetic shift, so it rounds down
    parts = {"": low, SUFFIX: integers - low}
    output = node.output[0]
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []
    for suffix, values in parts.items():
        prefix = f"{node.name}/half{suffix}"
        dequantizer, half = copy_of(weight), copy_of(node)
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


def _remove_unread_weights(graph: onnx.GraphProto) -> None:
    """Remove the dequantizers of weights that nothing reads any more, with their constants."""
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    for node in list(graph.node):
        if node.op_type == DEQUANTIZE and node.output[0] not in read:
            graph.node.remove(node)
    remove_unread_initializers(graph)
