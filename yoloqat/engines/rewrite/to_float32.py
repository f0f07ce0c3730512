"""FP16 graphs in FP32: CPUs compute floats in FP32, and engines do not take quantizers of both kinds in one graph."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from yoloqat.onnx_graph.graph import copy_of, subgraphs


def to_float32(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the same graph with every FP16 tensor in FP32; conversions to FP16 become conversions to FP32.

    Weights, scales and constants keep their values, which FP32 holds exactly; what is computed from them is rounded less.

    Args:
        model: A graph; it is not changed.
    """
    result = copy_of(model)
    _widen_graph(result.graph)
    return result


def _widen_graph(graph: onnx.GraphProto) -> None:
    for tensor in graph.initializer:
        _widen(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT
            elif attribute.type == onnx.AttributeProto.TENSOR:
                _widen(attribute.t)
        for inner in subgraphs(node):
            _widen_graph(inner)
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
            value.type.tensor_type.elem_type = TensorProto.FLOAT


def _widen(tensor: onnx.TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT16:
        wide = numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)
        tensor.CopyFrom(wide)
