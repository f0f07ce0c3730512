"""The convolutions of an ONNX file and what they cost."""

from __future__ import annotations

import math

import onnx

_OPS = ("Conv", "ConvTranspose")


def _at(model: onnx.ModelProto, name: str, shape: tuple[int, ...]) -> onnx.ModelProto:
    """Return a copy whose input ``name`` has ``shape``, and no shape that an open one led to."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.value_info[:]
    for value in result.graph.output:
        value.type.tensor_type.ClearField("shape")
    tensor = next(value for value in result.graph.input if value.name == name).type.tensor_type
    tensor.ClearField("shape")
    for side in shape:
        tensor.shape.dim.add().dim_value = side
    return result


def convolution_macs(model: onnx.ModelProto, name: str, shape: tuple[int, ...]) -> dict[str, int]:
    """Return the multiply-adds of one forward of each convolution, by node name in graph order.

    Args:
        model: The graph.
        name: Name of the image input.
        shape: (batch, channels, height, width) that it is run with.
    """
    graph = onnx.shape_inference.infer_shapes(_at(model, name, shape)).graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.output, *graph.input)
    }
    shapes |= {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    found = {}
    for node in graph.node:
        if node.op_type in _OPS:
            centre = node.output[0] if node.op_type == "Conv" else node.input[0]
            # each element of the output (of a transposed convolution: of the input) meets one filter
            found[node.name] = math.prod(shapes.get(centre) or [0]) * math.prod(shapes.get(node.input[1], [0])[1:])
    return found
