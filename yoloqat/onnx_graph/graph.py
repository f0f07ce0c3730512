"""What every pass asks of an ONNX graph: who makes a tensor, who reads it, what a constant holds."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

QUANTIZE = "QuantizeLinear"
DEQUANTIZE = "DequantizeLinear"
LAYER_OPS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})


@dataclass(frozen=True)
class PassResult:
    """What a pass gives back.

    Attributes:
        model: The model after the pass; the very object that went in when nothing was to do, else a changed copy.
        modified: Whether the pass changed anything.
    """

    model: onnx.ModelProto
    modified: bool


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a deep copy, so that a pass never changes what it was given."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def unname_sizes(model: onnx.ModelProto) -> PassResult:
    """Take the names off open dimensions.

    Ultralytics takes a named first dimension of the output for a sign that height and width are open as well, and feeds
    rectangles, which a graph of one image size refuses.

    Ensures:
        Open dimensions stay open; no recorded shape names one.
    """
    result = copy_of(model)
    graph, modified = result.graph, False
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.HasField("dim_param"):
                dim.Clear()
                modified = True
    return PassResult(result if modified else model, modified=modified)


def initializers(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Return the constants of ``graph`` by name."""
    return {tensor.name: tensor for tensor in graph.initializer}


def producers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """Return by tensor name the node that makes it."""
    return {name: node for node in graph.node for name in node.output if name}


def consumers(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """Return by tensor name the nodes that read it, in graph order, once each."""
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in dict.fromkeys(node.input):
            if name:
                readers[name].append(node)
    return dict(readers)


def constant(graph: onnx.GraphProto, name: str) -> NDArray[np.generic] | None:
    """Return the values of the initialiser ``name``, or None where there is none of that name."""
    tensor = initializers(graph).get(name)
    return None if tensor is None else numpy_helper.to_array(tensor)


def remove_unread_initializers(graph: onnx.GraphProto, candidates: Iterable[str]) -> None:
    """Drop those of ``candidates`` that nothing reads any more, in place, with their recorded types."""
    read = Counter(name for node in graph.node for name in node.input)
    read.update(value.name for value in graph.output)
    gone = {name for name in candidates if not read[name]}
    for field in (graph.initializer, graph.value_info):
        kept = [entry for entry in field if entry.name not in gone]
        if len(kept) != len(field):
            del field[:]
            field.extend(kept)


def replace_nodes(graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto]) -> None:
    """Set the graph's nodes to ``nodes``, in place; they may be the graph's own."""
    copies = []
    for node in nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copies.append(copy)
    del graph.node[:]
    graph.node.extend(copies)
