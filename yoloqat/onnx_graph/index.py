"""An ONNX graph prepared for looking things up: who makes a tensor, who reads it, what is constant."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, inliner, numpy_helper

from yoloqat.errors import ModelError
from yoloqat.onnx_graph.graph import attribute, constant_tensor, consumers, copy_of, subgraphs
from yoloqat.onnx_graph.operators import KEEPS_ORDER, KEEPS_SHAPE, opset_of


def _flattened(
    graph: onnx.GraphProto, scope: Mapping[str, str], depth: Iterator[int]
) -> tuple[list[onnx.NodeProto], dict[str, TensorProto], list[str]]:
    """Return nodes, initialisers and inputs of a graph and of the bodies inside it, a body before the node that holds it.

    Args:
        graph: The graph.
        scope: What names of enclosing graphs are called.
        depth: Numbers for bodies; the names that a body defines get its number, as two bodies may define the same.
    """
    number = next(depth)
    defined = [entry.name for entry in (*graph.initializer, *graph.input)]
    defined += [name for node in graph.node for name in node.output if name]
    scope = {**scope, **{name: f"{name}#{number}" if number else name for name in defined}}
    nodes: list[onnx.NodeProto] = []
    tensors = {scope[tensor.name]: tensor for tensor in graph.initializer}
    inputs = [scope[value.name] for value in graph.input]
    for node in graph.node:
        for body in subgraphs(node):
            inner = _flattened(body, scope, depth)
            nodes.extend(inner[0])
            tensors.update(inner[1])
            inputs.extend(inner[2])
        if number:
            node = copy_of(node)
            node.input[:] = [scope.get(name, name) for name in node.input]
            node.output[:] = [scope.get(name, name) for name in node.output]
        nodes.append(node)
    return nodes, tensors, inputs


@dataclass(frozen=True)
class Index:
    """Look-ups over a graph; bodies of If and Loop lie before the nodes that hold them.

    Attributes:
        nodes: All nodes, in the file's order.
        opset: Version of the standard operators, None where the file imports none.
        inputs: Names of the inputs, without those that initialisers fill.
        outputs: Names of the main graph's outputs.
        tensors: Initialisers and the values of Constant nodes, by name.
        constant: Names of all tensors that follow from constants alone.
        made: The node that makes a tensor; in a graph out of order some have none, so that no way back is a circle.
        readers: The nodes that read a tensor, in order, once each.
    """

    nodes: tuple[onnx.NodeProto, ...]
    opset: int | None
    inputs: frozenset[str]
    outputs: tuple[str, ...]
    tensors: Mapping[str, TensorProto]
    constant: frozenset[str]
    made: Mapping[str, onnx.NodeProto]
    readers: Mapping[str, tuple[onnx.NodeProto, ...]]

    def maker(self, tensor: str, *through: str) -> onnx.NodeProto | None:
        """Return the node that makes ``tensor``, looking back through nodes of the types ``through``."""
        return self.made.get(self.origin(tensor, *through))

    def origin(self, tensor: str, *through: str) -> str:
        """Return the tensor that ``tensor`` comes from, looking back through nodes of the types ``through``."""
        node = self.made.get(tensor)
        while node is not None and node.op_type in through and node.input:
            tensor = node.input[0]
            node = self.made.get(tensor)
        return tensor

    def value(self, tensor: str) -> NDArray[np.generic] | None:
        """Return what a constant holds, followed through Identity, Cast and changes of shape; None where unknown."""
        casts = []
        node = self.made.get(tensor)
        while tensor not in self.tensors and node is not None and node.op_type in KEEPS_ORDER and node.input:
            if node.op_type == "Cast":
                casts.append(attribute(node, "to", TensorProto.FLOAT))
            tensor = node.input[0]
            node = self.made.get(tensor)
        held = self.tensors.get(tensor)
        if held is None or not _complete(held):
            return None
        array: NDArray[np.generic] = numpy_helper.to_array(held)
        for kind in reversed(casts):
            array = array.astype(helper.tensor_dtype_to_np_dtype(kind))
        return array

    def shape(self, tensor: str) -> tuple[int, ...] | None:
        """Return the shape of a constant, followed back through what keeps or permutes it; None where unknown."""
        if tensor in self.tensors:
            return tuple(self.tensors[tensor].dims)
        node = self.made.get(tensor)
        if node is None or not node.input or tensor not in self.constant:
            return None
        if node.op_type in KEEPS_SHAPE:
            return self.shape(node.input[0])
        if node.op_type == "Transpose":
            before = self.shape(node.input[0])
            order = permutation(node, len(before)) if before is not None else ()
            return tuple(before[axis] for axis in order) if before is not None and order else None
        return None

    def kind(self, tensor: str) -> int:
        """Return the ONNX element type of a constant, followed through Identity; UNDEFINED where unknown."""
        node = self.made.get(tensor)
        if tensor in self.tensors:
            return int(self.tensors[tensor].data_type)
        if node is not None and node.op_type == "Identity" and node.input:
            return self.kind(node.input[0])
        if node is not None and node.op_type == "Cast":
            return attribute(node, "to", TensorProto.UNDEFINED)
        return int(TensorProto.UNDEFINED)


def permutation(node: onnx.NodeProto, rank: int) -> tuple[int, ...]:
    """Return where each axis of a Transpose's output comes from; empty where its attribute does not fit ``rank``."""
    order = next((tuple(entry.ints) for entry in node.attribute if entry.name == "perm"), tuple(range(rank))[::-1])
    return order if sorted(order) == list(range(rank)) else ()


def _complete(tensor: TensorProto) -> bool:
    """Return whether the tensor holds as many values as its shape says; a broken file may lack some."""
    if tensor.data_location == TensorProto.EXTERNAL or tensor.data_type == TensorProto.UNDEFINED:
        return False
    try:
        array = numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError):
        return False
    expected: int = math.prod(tensor.dims)
    return array.size == expected


def _constants(nodes: Sequence[onnx.NodeProto], tensors: Mapping[str, TensorProto]) -> frozenset[str]:
    found = set(tensors)
    for node in nodes:
        read = [name for name in node.input if name]
        if read and not any(subgraphs(node)) and all(name in found for name in read):
            found.update(name for name in node.output if name)
    return frozenset(found)


def _links(
    nodes: Sequence[onnx.NodeProto],
) -> tuple[dict[str, onnx.NodeProto], dict[str, tuple[onnx.NodeProto, ...]]]:
    """Return who makes and who reads each tensor.

    A tensor that is read before it is made is left without a maker, so that no way back runs in a circle.
    """
    made: dict[str, onnx.NodeProto] = {}
    read: set[str] = set()
    for node in nodes:
        read.update(node.input)
        for name in node.output:
            if name and name not in read:
                made.setdefault(name, node)
    return made, {name: tuple(found) for name, found in consumers(nodes).items()}


def index_of(model: onnx.ModelProto) -> Index:
    """Prepare a model for looking things up; its local functions are inlined first.

    Raises:
        ModelError: Its functions cannot be inlined, e.g. one that calls itself.
    """
    try:
        flat = inliner.inline_local_functions(model) if model.functions else model
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"the functions of the model cannot be put in place ({error!s:.200})",
            expected="functions that end",
            hint="export it again",
        ) from error
    nodes, tensors, inputs = _flattened(flat.graph, {}, count())
    for node in nodes:
        held = constant_tensor(node)
        if held is not None:
            tensors[node.output[0]] = held
    made, readers = _links(nodes)
    return Index(
        nodes=tuple(nodes),
        opset=opset_of(flat),
        inputs=frozenset(inputs) - tensors.keys(),
        outputs=tuple(value.name for value in flat.graph.output),
        tensors=tensors,
        constant=_constants(nodes, tensors),
        made=made,
        readers=readers,
    )


def downstream_of(index: Index, starts: Callable[[onnx.NodeProto], bool]) -> frozenset[str]:
    """Return the tensors that have a node for which ``starts`` holds among their ancestors."""
    found: set[str] = set()
    for node in index.nodes:
        if starts(node) or any(name in found for name in node.input):
            found.update(node.output)
    return frozenset(found)


def upstream_of(index: Index, ends: Callable[[onnx.NodeProto], bool]) -> frozenset[str]:
    """Return the tensors from which a node for which ``ends`` holds can be reached."""
    found: set[str] = set()
    for node in reversed(index.nodes):
        if ends(node) or any(name in found for name in node.output):
            found.update(name for name in node.input if name)
    return frozenset(found)
