"""One form for the graphs of all exporters, so that the passes of a build meet no other."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from yoloqat.engines.rewrite.to_float32 import to_float32
from yoloqat.onnx_graph.graph import attribute, constant_tensor, free_name, initializers
from yoloqat.onnx_graph.operators import DEQUANTIZE, QUANTIZE, QUANTIZERS


def normal_form(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the same computation in FP32 with named nodes, constants as initialisers and explicit zero-points.

    Exporters leave nodes without names or give several the same, write scales as Constant nodes, and leave out zero-points
    of 0; passes look up all three by name.

    Args:
        model: A valid graph; it is not changed.
    """
    result = to_float32(model)
    graph = result.graph
    for node in list(graph.node):
        held = constant_tensor(node)
        if held is not None:
            tensor = graph.initializer.add()
            tensor.CopyFrom(held)
            tensor.name = node.output[0]
            graph.node.remove(node)
    _name_nodes(graph)
    constants = initializers(graph)
    types = {node.output[0]: _default_type(node) for node in graph.node if node.op_type == QUANTIZE}
    for node in graph.node:
        if node.op_type in QUANTIZERS and not any(node.input[2:]):
            _give_zero_point(graph, node, constants, types)
    return result


def _name_nodes(graph: onnx.GraphProto) -> None:
    taken = {node.name for node in graph.node}
    seen: set[str] = set()
    for node in graph.node:
        if not node.name or node.name in seen:
            node.name = free_name(node.name or node.op_type, taken, first=0)
            taken.add(node.name)
        seen.add(node.name)


def _default_type(quantizer: onnx.NodeProto) -> int:
    """Return the element type of the integers of a QuantizeLinear without a zero-point."""
    return attribute(quantizer, "output_dtype", 0) or onnx.TensorProto.UINT8


def _give_zero_point(
    graph: onnx.GraphProto, node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto], types: Mapping[str, int]
) -> None:
    scale, integers = constants.get(node.input[1]), constants.get(node.input[0])
    kind = _default_type(node) if node.op_type == QUANTIZE else types.get(node.input[0], 0)
    kind = integers.data_type if integers is not None and node.op_type == DEQUANTIZE else kind
    if scale is None or kind not in (onnx.TensorProto.UINT8, onnx.TensorProto.INT8):
        return
    name = f"{node.output[0]}/zero_point"
    point = np.zeros(tuple(scale.dims), helper.tensor_dtype_to_np_dtype(kind))
    graph.initializer.append(numpy_helper.from_array(point, name))
    del node.input[2:]
    node.input.append(name)
