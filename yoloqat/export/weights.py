"""The pass that replaces float weights by integers and DequantizeLinear."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from yoloqat.errors import ExportError
from yoloqat.export.checks import check_weight, integer_tensor, scale_tensor, zero_point_tensor
from yoloqat.export.layers import nodes_of
from yoloqat.onnx_graph.graph import (
    PassResult,
    attribute,
    copy_of,
    initializers,
    remove_unread_initializers,
    replace_nodes,
)
from yoloqat.onnx_graph.operators import DEQUANTIZE
from yoloqat.quant.qparams import TensorQParams


def _reads_transposed(node: onnx.NodeProto) -> bool:
    """Return whether ``node`` reads a linear layer's weight as (inputs, outputs) instead of (outputs, inputs)."""
    if node.op_type == "Gemm":
        return not attribute(node, "transB", 0)
    return node.op_type == "MatMul"


def _fitted(
    name: str, qparams: TensorQParams, node: onnx.NodeProto, shape: tuple[int, ...]
) -> tuple[TensorQParams, int]:
    """Return the weight's qparams in the layout that ``node`` reads, and the axis of its output channels.

    A convolution's and a linear layer's output channels are axis 0 of the weight, a transposed convolution's axis 1; a
    MatMul reads the linear layer's weight transposed.
    """
    integers = np.asarray(qparams.integers)
    axis = 1 if node.op_type == "ConvTranspose" else 0
    if _reads_transposed(node):
        integers, axis = integers.T, 1
    if integers.shape != shape:
        raise ExportError(
            f"weight of layer '{name}' has integers of shape {integers.shape}",
            expected=f"the graph's shape {shape}",
            hint="export the module that was calibrated",
        )
    if np.ndim(qparams.scale) and np.shape(qparams.scale) != (shape[axis],):
        raise ExportError(
            f"weight of layer '{name}' has scales of shape {np.shape(qparams.scale)}",
            expected=f"() or ({shape[axis]},), one per index of axis {axis}",
            hint="calibrate its weight along the output channels",
        )
    return replace(qparams, integers=integers), axis


def check_weights(model: onnx.ModelProto, weights: Mapping[str, NDArray[np.float32]]) -> None:
    """Check that the exporter left the weights of layers as they are, so that integers computed from these may replace them.

    Args:
        model: A traced graph.
        weights: The float weight of each layer to quantize.

    Raises:
        ExportError: A layer is not in the graph, or its weight was changed: the exporter folds batch-norms into layers.
    """
    tensors = initializers(model.graph)
    for name, indices in nodes_of(model, list(weights)).items():
        node = model.graph.node[indices[0]]
        found, weight = numpy_helper.to_array(tensors[node.input[1]]), weights[name]
        fitted = weight.T if _reads_transposed(node) else weight
        if found.shape == fitted.shape and not np.array_equal(found, fitted):
            raise ExportError(
                f"weight of layer '{name}' differs in the graph by up to {np.abs(found - fitted).max():.3g}",
                expected="the weight that was calibrated: the exporter folds a batch-norm behind the layer into it",
                hint="fold it before quantizing, as quantize_module does with modules, or leave the layer float",
            )


def quantize_weights(model: onnx.ModelProto, wanted: Mapping[str, TensorQParams]) -> PassResult:
    """Replace the float weights of the layers in ``wanted`` by 8-bit integers and a DequantizeLinear.

    With one scale per channel the node has the attribute ``axis`` (0 for a convolution and a Gemm, 1 for a transposed
    convolution and a MatMul) and scales of shape (channels,); with a single scale it has none.

    Requires:
        Float weights are initialisers by which the layers are found.

    Ensures:
        Each of those nodes reads ``<layer>/weight/DequantizeLinear``; the float weights are gone; nodes are in
        topological order.

    Raises:
        ExportError: A layer is not in the graph, its qparams cannot be written, or they do not fit the weight's shape.
    """
    if not wanted:
        return PassResult(model, modified=False)
    for name, qparams in wanted.items():
        check_weight(name, qparams)
    found = nodes_of(model, list(wanted))
    shapes = {name: tuple(tensor.dims) for name, tensor in initializers(model.graph).items()}
    result = copy_of(model)
    graph = result.graph
    before: dict[int, onnx.NodeProto] = {}
    floats: list[str] = []
    for name, weight in wanted.items():
        indices = found[name]
        first = graph.node[indices[0]]
        qparams, axis = _fitted(name, weight, first, shapes[first.input[1]])
        floats.append(first.input[1])
        prefix = f"{name}/weight"
        names = [f"{prefix}/codes", f"{prefix}/scale", f"{prefix}/zero_point"]
        node = helper.make_node(DEQUANTIZE, names, [f"{prefix}/dequantized"], name=f"{prefix}/{DEQUANTIZE}")
        if np.ndim(qparams.scale):
            node.attribute.append(helper.make_attribute("axis", axis))
        before[indices[0]] = node
        graph.initializer.extend(
            [
                integer_tensor(names[0], qparams),
                scale_tensor(names[1], qparams),
                zero_point_tensor(names[2], qparams),
            ]
        )
        for index in indices:
            graph.node[index].input[1] = f"{prefix}/dequantized"
    nodes = [n for index, own in enumerate(graph.node) for n in (before.get(index), own) if n is not None]
    replace_nodes(graph, nodes)
    remove_unread_initializers(graph, floats)
    return PassResult(result, modified=True)
