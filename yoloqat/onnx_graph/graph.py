"""What is asked of and done to an ONNX graph everywhere: who makes a tensor, who reads it, what a constant holds."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, helper, numpy_helper

_Proto = TypeVar("_Proto", onnx.ModelProto, onnx.NodeProto, onnx.ValueInfoProto)
_CONSTANT_VALUES = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
}


@dataclass(frozen=True)
class PassResult:
    """What a pass gives back.

    Attributes:
        model: The model after the pass; the very object that went in when nothing was to do, else a changed copy.
        modified: Whether the pass changed anything.
    """

    model: onnx.ModelProto
    modified: bool


def copy_of(proto: _Proto) -> _Proto:
    """Return a deep copy, so that a pass never changes what it was given."""
    copy = type(proto)()
    copy.CopyFrom(proto)
    return copy


def label(node: onnx.NodeProto) -> str:
    """Return the node's name, or its operator and first output where it has none."""
    return node.name or f"{node.op_type}->{next(iter(node.output), '')}"


def attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    """Return an integer attribute of ``node``."""
    return next((int(entry.i) for entry in node.attribute if entry.name == name), default)


def text_attribute(node: onnx.NodeProto, name: str, default: str) -> str:
    """Return a text attribute of ``node``."""
    return next((entry.s.decode(errors="replace") for entry in node.attribute if entry.name == name), default)


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the graphs that ``node`` holds, as If and Loop do."""
    for entry in node.attribute:
        if entry.type == AttributeProto.GRAPH:
            yield entry.g
        yield from entry.graphs


def constant_tensor(node: onnx.NodeProto) -> onnx.TensorProto | None:
    """Return what a Constant node holds, None of another node or where it is no array of numbers."""
    for entry in node.attribute if node.op_type == "Constant" and node.output else ():
        if entry.name == "value":
            tensor: onnx.TensorProto = entry.t
            return tensor
        if entry.name in _CONSTANT_VALUES:
            array = np.asarray(helper.get_attribute_value(entry), dtype=_CONSTANT_VALUES[entry.name])
            return numpy_helper.from_array(array)
    return None


def initializers(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Return the initialisers of ``graph`` by name."""
    return {tensor.name: tensor for tensor in graph.initializer}


def constants(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Return the initialisers of ``graph`` and what its Constant nodes hold, by the name of the tensor."""
    held = ((node.output[0], constant_tensor(node)) for node in graph.node if node.op_type == "Constant")
    return initializers(graph) | {name: tensor for name, tensor in held if tensor is not None}


def constant(graph: onnx.GraphProto, name: str) -> NDArray[np.generic] | None:
    """Return the values of the initialiser ``name``, or None where there is none of that name."""
    tensor = initializers(graph).get(name)
    return None if tensor is None else numpy_helper.to_array(tensor)


def producers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """Return by tensor name the node that makes it."""
    return {name: node for node in graph.node for name in node.output if name}


def consumers(nodes: Iterable[onnx.NodeProto]) -> dict[str, list[onnx.NodeProto]]:
    """Return by tensor name the nodes that read it, in order, once each."""
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in nodes:
        for name in dict.fromkeys(node.input):
            if name:
                readers[name].append(node)
    return dict(readers)


def free_name(base: str, taken: Container[str], *, first: int = 1) -> str:
    """Return ``base`` with the least number from ``first`` on that makes a name not ``taken``."""
    number = first
    while (name := f"{base}_{number}") in taken:
        number += 1
    return name


def remove_unread_initializers(graph: onnx.GraphProto, candidates: Iterable[str] | None = None) -> None:
    """Drop those initialisers, or of ``candidates``, that nothing reads any more, in place, with their recorded types."""
    read = Counter(name for node in graph.node for name in node.input)
    read.update(value.name for value in graph.output)
    wanted = (tensor.name for tensor in graph.initializer) if candidates is None else candidates
    gone = {name for name in wanted if not read[name]}
    for field in (graph.initializer, graph.value_info):
        kept = [entry for entry in field if entry.name not in gone]
        if len(kept) != len(field):
            del field[:]
            field.extend(kept)


def replace_nodes(graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto]) -> None:
    """Set the graph's nodes to ``nodes``, in place; they may be the graph's own."""
    copies = [copy_of(node) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


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
