"""The equivalent graph for ONNX Runtime's integer kernels: every tensor between quantized layers in uint8.

ONNX Runtime runs an operator in integers only where its inputs and its output are both quantized. A file that quantizes the
inputs of convolutions alone, which is all that TensorRT and OpenVINO need, is computed in float. The equivalent graph quantizes
what lies between as well: the convolutions' outputs, the gates of SiLU, sums and concatenations. That rounds more often than the
file does, so it has an error of its own, which is to be measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper, numpy_helper

from yoloqat.engines.rewrite.lower_bounds import lower_bounds
from yoloqat.errors import ModelError
from yoloqat.onnx_graph.graph import copy_of, initializers, remove_unread_initializers
from yoloqat.onnx_graph.operators import DEQUANTIZE, QUANTIZE, keeps_scale

SILU_FLOOR = -8.0
"""A SiLU's input is not told apart below this; the output there lies within 0.003 of zero."""
_COMPUTING = frozenset({"Sigmoid", "Mul", "Add", "Concat", "AveragePool", "GlobalAveragePool"})
_GATE = (0.0, 1.0)

Range = tuple[float, float]


@dataclass(frozen=True)
class Plan:
    """What the equivalent graph quantizes.

    Attributes:
        given: Range by tensor, where the file has a quantizer.
        layers: Names of the convolutions that the file quantizes.
        groups: Tensors that are quantized, to the name under which those that share a scale share one range.
        measured: Tensors whose range the file does not tell, in graph order.
    """

    given: Mapping[str, Range]
    layers: frozenset[str]
    groups: Mapping[str, str]
    measured: tuple[str, ...]


@dataclass
class _Stripped:
    """A graph whose activations read float tensors again, and what its quantizers said."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    given: dict[str, Range] = field(default_factory=dict)
    layers: set[str] = field(default_factory=set)


def _stripped(model: onnx.ModelProto) -> _Stripped:
    constants, result = initializers(model.graph), _Stripped()
    bounds = lower_bounds(model)
    source: dict[str, str] = {}  # quantized or dequantized tensors, to the tensor that they stand for
    weights = {n.output[0] for n in model.graph.node if n.op_type == DEQUANTIZE and n.input[0] in constants}
    for node in model.graph.node:
        if node.op_type == QUANTIZE:
            tensor = source.get(node.input[0], node.input[0])
            source[node.output[0]] = tensor
            result.given[tensor] = _union(result.given.get(tensor), _range_of(node, constants, bounds.get(tensor)))
        elif node.op_type == DEQUANTIZE and node.input[0] in source:
            source[node.output[0]] = source[node.input[0]]
        else:
            copy = copy_of(node)
            if node.op_type == "Conv" and node.input[0] in source and node.input[1] in weights:
                result.layers.add(node.name)
            for index, name in enumerate(node.input):
                copy.input[index] = source.get(name, name)
            result.nodes.append(copy)
    return result


def _range_of(quantizer: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto], low: float | None) -> Range:
    found = [numpy_helper.to_array(constants[name]) for name in quantizer.input[1:] if name in constants]
    if len(found) != 2 or found[0].size != 1 or found[1].size != 1 or found[1].dtype.kind not in "iu":
        held = ", ".join(f"{array.dtype} of shape {array.shape}" for array in found)
        raise ModelError(
            f"quantizer '{quantizer.name}' has the constants {held or 'none'}",
            expected="one constant scale and one whole-number zero-point for the whole tensor",
            hint="export the model with quantizers per tensor",
        )
    scale, zero = float(found[0].item()), int(found[1].item())
    limits = np.iinfo(found[1].dtype)
    least = (int(limits.min) - zero) * scale
    return max(least, low) if low is not None else least, (int(limits.max) - zero) * scale


def _union(first: Range | None, second: Range) -> Range:
    return second if first is None else (min(first[0], second[0]), max(first[1], second[1]))


def _data_inputs(node: onnx.NodeProto) -> list[str]:
    return list(node.input[:1]) if keeps_scale(node) or node.op_type == "Resize" else list(node.input)


def plan_equivalent(model: onnx.ModelProto) -> Plan:
    """Decide which tensors of a QDQ graph are quantized in its equivalent graph.

    A tensor is quantized where the file quantizes it, or where everything that reads it leads to a quantized layer by
    operators that exist in integers, or where it is a quantized convolution's way into a SiLU.

    Args:
        model: A QDQ graph in topological order; it is not changed.

    Raises:
        ModelError: A quantizer has no constant scale and zero-point, or several.
    """
    stripped = _stripped(model)
    able = [n for n in stripped.nodes if n.op_type in _COMPUTING or keeps_scale(n)]
    inner = _inner(stripped, {id(n) for n in able}, {value.name for value in model.graph.output})
    quantized = set(stripped.given)
    groups: dict[str, str] = {name: name for name in stripped.given}
    made = {name: node for node in stripped.nodes for name in node.output}
    for node in stripped.nodes:
        if node.name in stripped.layers:
            wanted = inner[node.output[0]] or _feeds_silu(node.output[0], stripped.nodes)
        elif keeps_scale(node) or node.op_type in _COMPUTING:
            wanted = all(inner[name] for name in node.output) and all(name in quantized for name in _data_inputs(node))
        else:
            wanted = False
        if wanted:
            quantized.update(node.output)
    for node in stripped.nodes:
        for name in node.output:
            if name in quantized:
                follows = keeps_scale(made[name]) and made[name].input[0] in quantized
                groups[name] = groups[made[name].input[0]] if follows else name
    known = set(stripped.given) | {n.output[0] for n in stripped.nodes if n.op_type == "Sigmoid"}
    measured = tuple(name for name in groups if groups[name] == name and name not in known)
    return Plan(stripped.given, frozenset(stripped.layers), groups, measured)


def _inner(stripped: _Stripped, able: set[int], outputs: set[str]) -> dict[str, bool]:
    """Return for each tensor whether all that reads it leads to quantized layers by operators of ``able``."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in stripped.nodes:
        for name in _data_inputs(node):
            readers.setdefault(name, []).append(node)
    inner: dict[str, bool] = {}

    def leads(node: onnx.NodeProto) -> bool:
        return node.name in stripped.layers or (id(node) in able and all(inner[name] for name in node.output))

    for node in reversed(stripped.nodes):
        for name in node.output:
            behind = readers.get(name, [])
            inner[name] = name not in outputs and bool(behind) and all(leads(reader) for reader in behind)
    return inner


def _feeds_silu(tensor: str, nodes: Iterable[onnx.NodeProto]) -> bool:
    kinds = sorted(node.op_type for node in nodes if tensor in node.input)
    return kinds == ["Mul", "Sigmoid"]


def equivalent_graph(model: onnx.ModelProto, ranges: Mapping[str, Range], *, highest: int = 255) -> onnx.ModelProto:
    """Return the graph in which every tensor of :func:`plan_equivalent` is quantized, to uint8.

    Args:
        model: A QDQ graph; it is not changed.
        ranges: Least and greatest value of the tensors that the plan measures.
        highest: Integer at the upper end of the range of a tensor that a convolution reads. With 127 no two products of
            values within their ranges overflow 16 bits, see :mod:`yoloqat.engines.saturation`; 255 is twice as fine.

    Raises:
        KeyError: A range is missing.
    """
    plan, stripped = plan_equivalent(model), _stripped(model)
    gates = {node.output[0] for node in stripped.nodes if node.op_type == "Sigmoid"}
    spans: dict[str, Range] = {}
    for name, group in plan.groups.items():
        own = plan.given.get(name) or (_GATE if name in gates else ranges[name] if name == group else None)
        if own is not None:
            low = max(own[0], SILU_FLOOR) if _feeds_silu(name, stripped.nodes) else own[0]
            spans[group] = _union(spans.get(group), (low, own[1]))
    result = copy_of(model)
    graph = result.graph
    del graph.node[:]
    del graph.value_info[:]
    read = {plan.groups[node.input[0]] for node in stripped.nodes if node.name in plan.layers}
    writer = _Writer(graph, initializers(model.graph), plan)
    for group, span in spans.items():
        writer.add_qparams(group, span, highest=highest if group in read else 255)
    for value in model.graph.input:
        writer.quantize(value.name)
    for node in stripped.nodes:
        writer.add(node)
    remove_unread_initializers(graph)
    return result


class _Writer:
    """Adds nodes to a graph, and behind each that makes a quantized tensor its quantizer and dequantizer."""

    def __init__(self, graph: onnx.GraphProto, constants: Mapping[str, onnx.TensorProto], plan: Plan) -> None:
        self._graph, self._constants, self._plan = graph, constants, plan
        self._scales: dict[str, np.float32] = {}
        self._weights: dict[str, onnx.NodeProto] = {}

    def add_qparams(self, group: str, span: Range, *, highest: int) -> None:
        """Add the scale and the zero-point of a group of tensors."""
        low, high = min(span[0], 0.0), max(span[1], 0.0)
        scale = np.float32((high - low) / highest or 1.0)
        point = np.clip(np.round(-low / scale), 0, 255).astype(np.uint8)
        self._scales[group] = scale
        self._graph.initializer.append(numpy_helper.from_array(np.array(scale), f"{group}/u8/scale"))
        self._graph.initializer.append(numpy_helper.from_array(np.array(point), f"{group}/u8/zero_point"))

    def add(self, node: onnx.NodeProto) -> None:
        if node.op_type == DEQUANTIZE:
            self._weights[node.output[0]] = node
        copy = copy_of(node)
        quantized = all(name in self._plan.groups for name in node.output)
        layer = node.name in self._plan.layers
        for index, name in enumerate(node.input):
            if name in self._plan.groups and (layer or quantized or self._from_layer(name)):
                copy.input[index] = f"{name}/u8"
        if layer and len(node.input) > 2 and node.input[2] in self._constants:
            copy.input[2] = self._bias(node)
        self._graph.node.append(copy)
        for name in node.output:
            self.quantize(name)

    def quantize(self, name: str) -> None:
        group = self._plan.groups.get(name)
        if group is None:
            return
        qparams = [f"{group}/u8/scale", f"{group}/u8/zero_point"]
        self._graph.node.append(
            helper.make_node(QUANTIZE, [name, *qparams], [f"{name}/u8/codes"], name=f"{name}/u8/QuantizeLinear")
        )
        self._graph.node.append(
            helper.make_node(
                DEQUANTIZE, [f"{name}/u8/codes", *qparams], [f"{name}/u8"], name=f"{name}/u8/DequantizeLinear"
            )
        )

    def _from_layer(self, name: str) -> bool:
        return any(name in node.output and node.name in self._plan.layers for node in self._graph.node)

    def _bias(self, node: onnx.NodeProto) -> str:
        """Add the bias as int32, whose scale is the product of the input's and the weight's."""
        weight = numpy_helper.to_array(self._constants[self._weights[node.input[1]].input[1]]).astype(np.float32)
        bias = numpy_helper.to_array(self._constants[node.input[2]]).astype(np.float64)
        scale = np.broadcast_to(self._scales[self._plan.groups[node.input[0]]] * weight.reshape(-1), bias.shape)
        if not (scale > 0).all():  # a dead channel's bias has no scale
            return str(node.input[2])
        limits = np.iinfo(np.int32)
        integers = np.clip(np.round(bias / scale), limits.min, limits.max).astype(np.int32)
        name = f"{node.name}/bias"
        for suffix, values in (
            ("codes", integers),
            ("scale", scale.astype(np.float32)),
            ("zero_point", np.zeros(bias.shape, np.int32)),
        ):
            self._graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), f"{name}/{suffix}"))
        parts = [f"{name}/codes", f"{name}/scale", f"{name}/zero_point"]
        self._graph.node.append(
            helper.make_node(DEQUANTIZE, parts, [f"{name}/i32"], name=f"{name}/DequantizeLinear", axis=0)
        )
        return f"{name}/i32"
