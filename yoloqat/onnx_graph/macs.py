"""The multiply-adds of convolutions."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import onnx

from yoloqat.onnx_graph.graph import copy_of
from yoloqat.onnx_graph.operators import CONVOLUTIONS


def multiply_adds(centre: Sequence[int], weight: Sequence[int]) -> int:
    """Return the multiply-adds of one forward of a convolution: each element of ``centre`` meets one filter.

    Args:
        centre: Shape (batch, channels, ...) of the output, of a transposed convolution of the input. An open batch (0) counts as
            one image, another open side as none.
        weight: Shape of the weight; a runtime may split the output channels into groups and channels per group.
    """
    if len(centre) < 2 or not centre[1]:
        return 0
    return (centre[0] or 1) * math.prod(centre[1:]) * math.prod(weight) // centre[1] if weight else 0


def convolution_multiply_adds(node: onnx.NodeProto, shapes: Mapping[str, Sequence[int]]) -> int:
    """Return the multiply-adds of one forward of a convolution's node; 0 where its shape is open.

    Args:
        node: A convolution, or a transposed one.
        shapes: Of tensors by name.
    """
    centre = node.output[0] if node.op_type == "Conv" else node.input[0]
    return multiply_adds(shapes.get(centre, ()), shapes.get(node.input[1], ()))


def with_input_shape(model: onnx.ModelProto, name: str, shape: tuple[int, ...]) -> onnx.ModelProto:
    """Return a copy whose input ``name`` has ``shape``, and no shape that an open one led to."""
    result = copy_of(model)
    del result.graph.value_info[:]
    for value in result.graph.output:
        value.type.tensor_type.ClearField("shape")
    tensor = next(value for value in result.graph.input if value.name == name).type.tensor_type
    tensor.ClearField("shape")
    for side in shape:
        tensor.shape.dim.add().dim_value = side
    return result


def tensor_shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors of a graph by name, inferred where none is recorded; an open side is 0.

    Args:
        model: The graph; its inputs have a shape.
    """
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in (*graph.value_info, *graph.output, *graph.input)
    }
    return shapes | {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}


def convolution_macs(model: onnx.ModelProto, operators: Collection[str] = CONVOLUTIONS) -> dict[str, int]:
    """Return the multiply-adds of one forward of each convolution, by node name in graph order; 0 where its shape is open.

    Args:
        model: The graph.
        operators: Which convolutions.
    """
    shapes = tensor_shapes(model)
    return {
        node.name: convolution_multiply_adds(node, shapes) for node in model.graph.node if node.op_type in operators
    }
