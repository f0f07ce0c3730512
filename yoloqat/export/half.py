"""The pass that bakes FP16 into a graph: engines without precision flags then run it in FP16."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from yoloqat.errors import ExportError
from yoloqat.onnx_graph.graph import (
    PassResult,
    attribute,
    consumers,
    copy_of,
    remove_unread_initializers,
    replace_nodes,
)
from yoloqat.onnx_graph.operators import LAYER_OPS, QUANTIZE, QUANTIZERS, opset_of

FIRST_OPSET = 19
SMALLEST_SCALE = 2.0**-14
"""The least normal number of FP16; a smaller scale would lose digits or become 0."""
LARGEST_SCALE = 2.0**15
"""The largest power of two in FP16."""

_STAYS_FLOAT = {"Resize": (1, 2)}
"""Inputs that are FP32 whatever the type of the node's data."""
_ANCHORS = frozenset({QUANTIZE, *LAYER_OPS})


def _tail(graph: onnx.GraphProto) -> set[int]:
    """Return the positions of the nodes after the last layers: none of their outputs reaches a layer or a quantizer."""
    readers = consumers(graph.node)
    tail: set[int] = set()
    reaching: set[str] = set()
    for index in range(len(graph.node) - 1, -1, -1):
        node = graph.node[index]
        if node.op_type in _ANCHORS or any(name in reaching for name in node.output):
            reaching.update(node.input)
        elif any(readers.get(name) or name in {v.name for v in graph.output} for name in node.output):
            tail.add(index)
    return tail


def _clamped(scale: NDArray[Any]) -> NDArray[np.float16]:
    half: NDArray[np.float16] = np.clip(scale, SMALLEST_SCALE, LARGEST_SCALE).astype(np.float16)
    return half


def _requantized(
    integers: NDArray[np.int8], scale: NDArray[np.float32], half: NDArray[np.float16], axis: int
) -> NDArray[np.int8]:
    """Return integers rescaled where the scale was raised, and unchanged elsewhere."""
    shape = [1] * integers.ndim
    if scale.ndim:
        shape[axis] = -1
    old, new = scale.reshape(shape if scale.ndim else ()), half.astype(np.float32).reshape(shape if scale.ndim else ())
    moved = np.rint(integers * (old / new)).astype(np.int8)
    return np.where(np.broadcast_to(old < SMALLEST_SCALE, integers.shape), moved, integers)


class _Baker:
    """Rewrites the nodes of one graph in their order."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.floats = {t.name: numpy_helper.to_array(t) for t in graph.initializer if t.data_type == TensorProto.FLOAT}
        self.arrays = {t.name: t for t in graph.initializer}
        self.added: dict[str, onnx.TensorProto] = {}
        self.made: dict[str, bool] = {}  # tensor to whether it is FP16
        self.casts: dict[str, str] = {}
        self.nodes: list[onnx.NodeProto] = []

    def cast(self, name: str, *, half: bool) -> str:
        """Return the name of ``name`` as FP16 or FP32, with a Cast where it is the other."""
        if self.made.get(name, half) == half:
            return name
        result = f"{name}/{'half' if half else 'float'}"
        if result not in self.casts:
            kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
            self.nodes.append(helper.make_node("Cast", [name], [result], name=f"{result}/Cast", to=kind))
            self.casts[result] = name
        return result

    def constant(self, name: str) -> str:
        """Return the name of a constant in FP16."""
        result = f"{name}/half"
        if result not in self.added:
            values = np.clip(self.floats[name], np.finfo(np.float16).min, np.finfo(np.float16).max)
            self.added[result] = numpy_helper.from_array(values.astype(np.float16), result)
        return result

    def scale(self, node: onnx.NodeProto) -> None:
        """Give a quantizer an FP16 scale, and rescale its weight integers to it."""
        name = node.input[1]
        if name not in self.floats:
            raise ExportError(
                f"the scale '{name}' of '{node.name}' is no constant",
                expected="a constant scale",
                hint="export from the traced model",
            )
        scale = self.floats[name]
        half = _clamped(scale)
        result = f"{name}/half"
        self.added[result] = numpy_helper.from_array(half, result)
        node.input[1] = result
        integers = self.arrays.get(node.input[0])
        if integers is not None and (scale < SMALLEST_SCALE).any():
            axis = attribute(node, "axis", 0)
            values = _requantized(numpy_helper.to_array(integers), scale, half, axis)
            integers.CopyFrom(numpy_helper.from_array(values, integers.name))

    def body(self, node: onnx.NodeProto, floating: Mapping[str, int]) -> None:
        """Let a node compute in FP16."""
        if node.op_type in QUANTIZERS:
            self.scale(node)
            if node.op_type == QUANTIZE:
                node.input[0] = self.cast(node.input[0], half=True)
        else:
            kept = _STAYS_FLOAT.get(node.op_type, ())
            for place, name in enumerate(node.input):
                if place in kept or not name:
                    continue
                if name in self.floats:
                    node.input[place] = self.constant(name)
                elif floating.get(name) == TensorProto.FLOAT:
                    node.input[place] = self.cast(name, half=True)
        _retype(node)
        self.nodes.append(node)
        self.made.update((name, True) for name in node.output if floating.get(name) == TensorProto.FLOAT)

    def tail(self, node: onnx.NodeProto, floating: Mapping[str, int]) -> None:
        """Let a node compute in FP32."""
        for place, name in enumerate(node.input):
            if name and floating.get(name) == TensorProto.FLOAT and name not in self.floats:
                node.input[place] = self.cast(name, half=False)
        self.nodes.append(node)
        self.made.update((name, False) for name in node.output if floating.get(name) == TensorProto.FLOAT)


def _retype(node: onnx.NodeProto) -> None:
    """Change FP32 in a node's attributes to FP16."""
    for entry in node.attribute:
        if node.op_type == "Cast" and entry.name == "to" and entry.i == TensorProto.FLOAT:
            entry.i = TensorProto.FLOAT16
        elif entry.type == onnx.AttributeProto.TENSOR and entry.t.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(entry.t).astype(np.float16)
            entry.t.CopyFrom(numpy_helper.from_array(values, entry.t.name))


def _types(model: onnx.ModelProto) -> dict[str, int]:
    """Return the element type of every tensor."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values: Iterable[onnx.ValueInfoProto] = (*graph.value_info, *graph.input, *graph.output)
    return {value.name: value.type.tensor_type.elem_type for value in values}


def bake_half(model: onnx.ModelProto) -> PassResult:
    """Compute everything up to the last layers in FP16; images and outputs stay FP32.

    What comes after the last layers, the decoding of boxes, stays FP32: FP16 knows pixels beyond 512 only in halves. Scales
    become FP16 too. One below the least normal FP16 number is raised to it and its integers are computed anew; one above the
    range, of a tensor that is always zero, is lowered.

    Requires:
        A graph of opset 19 or newer whose scales are constants; nodes are in topological order.

    Ensures:
        Layers and quantizers read FP16; inputs and outputs of the graph are as they were; no scale is zero, subnormal or
        infinite; nodes are in topological order.

    Raises:
        ExportError: The opset is older, or a scale is no constant.
    """
    opset = opset_of(model) or 0
    if opset < FIRST_OPSET:
        raise ExportError(
            f"opset is {opset} and FP16 is asked for",
            expected=f"opset {FIRST_OPSET} or newer, whose quantizers take FP16",
            hint=f"export with opset {FIRST_OPSET}",
        )
    floating = _types(model)
    result = copy_of(model)
    graph = result.graph
    tail = _tail(graph)
    baker = _Baker(graph)
    baker.made.update((value.name, False) for value in graph.input)
    for index, node in enumerate(graph.node):
        (baker.tail if index in tail else baker.body)(node, floating)
    for value in graph.output:
        if baker.made.get(value.name):  # a body's own output: its maker is renamed, the Cast keeps the name
            _rename(baker.nodes, value.name, f"{value.name}/half")
            baker.nodes.append(
                helper.make_node(
                    "Cast", [f"{value.name}/half"], [value.name], name=f"{value.name}/Cast", to=TensorProto.FLOAT
                )
            )
    replace_nodes(graph, baker.nodes)
    graph.initializer.extend(baker.added.values())
    remove_unread_initializers(graph)
    del graph.value_info[:]
    return PassResult(onnx.shape_inference.infer_shapes(result, strict_mode=True), modified=True)


def _rename(nodes: Iterable[onnx.NodeProto], old: str, new: str) -> None:
    for node in nodes:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
