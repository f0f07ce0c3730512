"""One form for the graphs of all exporters, so that the passes of a build meet no other."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")


def normal_form(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the same computation with named nodes, constants as initialisers and explicit zero-points.

    Exporters leave nodes without names or give several the same, write scales as Constant nodes, and leave out zero-points
    of 0; passes look up all three by name.

    Args:
        model: A valid graph; it is not changed.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    held = [node for node in graph.node if node.op_type == "Constant" and node.attribute[0].name == "value"]
    for node in held:
        tensor = graph.initializer.add()
        tensor.CopyFrom(node.attribute[0].t)
        tensor.name = node.output[0]
        graph.node.remove(node)
    _name_nodes(graph)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    types = {node.output[0]: _default_type(node) for node in graph.node if node.op_type == "QuantizeLinear"}
    for node in graph.node:
        if node.op_type in _QUANTIZERS and not any(node.input[2:]):
            _give_zero_point(graph, node, constants, types)
    return result


def _name_nodes(graph: onnx.GraphProto) -> None:
    taken = {node.name for node in graph.node}
    seen: set[str] = set()
    for node in graph.node:
        if not node.name or node.name in seen:
            base, number = node.name or node.op_type, 0
            while (name := f"{base}_{number}") in taken:
                number += 1
            node.name = name
            taken.add(name)
        seen.add(node.name)


def _default_type(quantizer: onnx.NodeProto) -> int:
    """Return the element type of the codes of a QuantizeLinear without a zero-point."""
    return next((a.i for a in quantizer.attribute if a.name == "output_dtype" and a.i), onnx.TensorProto.UINT8)


def _give_zero_point(
    graph: onnx.GraphProto, node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto], types: Mapping[str, int]
) -> None:
    scale, codes = constants.get(node.input[1]), constants.get(node.input[0])
    kind = _default_type(node) if node.op_type == "QuantizeLinear" else types.get(node.input[0], 0)
    kind = codes.data_type if codes is not None and node.op_type == "DequantizeLinear" else kind
    if scale is None or kind not in (onnx.TensorProto.UINT8, onnx.TensorProto.INT8):
        return
    name = f"{node.output[0]}/zero_point"
    point = np.zeros(tuple(scale.dims), helper.tensor_dtype_to_np_dtype(kind))
    graph.initializer.append(numpy_helper.from_array(point, name))
    del node.input[2:]
    node.input.append(name)
