"""The pass that keeps explicit zero padding before a MaxPool.

A maximum over a window that reaches beyond the tensor leaves out what is not there, as if it were minus infinity; a Pad before it
puts zeros there, which win over negative numbers, as SiLU makes them (YOLOv3-tiny pools so). Optimizers that take the Pad for
the pooling's own padding change the result: ONNX Runtime up to 1.31 and onnxsim do. They pass over a Pad that names its axes.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from yoloqat.onnx_graph.graph import PassResult, copy_of, initializers, text_attribute

AXES_INPUT = 3
"""Index of the input that holds a Pad's axes, since opset 18."""


def name_padded_axes(model: onnx.ModelProto) -> PassResult:
    """Give each constant Pad before a MaxPool the explicit axes that it pads.

    Requires:
        A graph of opset 18 or newer.

    Ensures:
        Every node computes the same.
    """
    pooled = {name for node in model.graph.node if node.op_type == "MaxPool" for name in node.input}
    places = [index for index, node in enumerate(model.graph.node) if _foldable(model.graph, node, pooled)]
    if not places:
        return PassResult(model, modified=False)
    result = copy_of(model)
    graph = result.graph
    for node in (graph.node[index] for index in places):
        before, after = np.split(numpy_helper.to_array(initializers(graph)[node.input[1]]), 2)
        axes = np.flatnonzero((before != 0) | (after != 0)).astype(np.int64)
        for suffix, values in (("pads", np.concatenate([before[axes], after[axes]])), ("axes", axes)):
            graph.initializer.append(numpy_helper.from_array(values.astype(np.int64), f"{node.output[0]}/{suffix}"))
        rest = [*node.input[2:], *[""] * (AXES_INPUT - max(len(node.input), 2))]
        inputs = [node.input[0], f"{node.output[0]}/pads", *rest, f"{node.output[0]}/axes"]
        del node.input[:]
        node.input.extend(inputs)
    return PassResult(result, modified=True)


def _foldable(graph: onnx.GraphProto, node: onnx.NodeProto, pooled: set[str]) -> bool:
    """Return whether an optimizer could take a node for the padding of a MaxPool that reads one of the tensors ``pooled``."""
    if node.op_type != "Pad" or node.output[0] not in pooled or len(node.input) > AXES_INPUT:
        return False
    return text_attribute(node, "mode", "constant") == "constant" and node.input[1] in initializers(graph)
