"""The pass that rewrites a graph of opset 18 in an older opset."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import defs, helper, numpy_helper

from yoloqat.errors import ExportError
from yoloqat.export.padding import AXES_INPUT
from yoloqat.onnx_graph.graph import PassResult, constant, copy_of
from yoloqat.onnx_graph.operators import STANDARD

NEWEST, OLDEST = 18, 13

_REDUCTIONS = frozenset(
    {"ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd"}
    | {"ReduceSumSquare"}
)
"""Reductions whose axes were an attribute before opset 18; ReduceSum's are an input since 13."""


def _lower(graph: onnx.GraphProto, node: onnx.NodeProto, sizes: dict[str, int]) -> None:
    attributes = {attribute.name: attribute for attribute in node.attribute}
    if node.op_type == "Split" and "num_outputs" in attributes:
        node.attribute.remove(attributes["num_outputs"])
        parts = [sizes.get(f"{name}@{attributes['axis'].i if 'axis' in attributes else 0}", 0) for name in node.output]
        if len(node.input) == 1 and len(set(parts)) > 1:  # without sizes, older ones split evenly
            name = f"{node.name}/split"
            graph.initializer.append(numpy_helper.from_array(np.array(parts, dtype=np.int64), name))
            node.input.append(name)
    elif node.op_type in _REDUCTIONS and len(node.input) > 1:
        axes = constant(graph, node.input[1])
        if axes is not None:
            del node.input[1:]
            node.attribute.append(helper.make_attribute("axes", [int(axis) for axis in axes]))
            if "noop_with_empty_axes" in attributes:
                node.attribute.remove(attributes["noop_with_empty_axes"])
    elif node.op_type == "Pad" and len(node.input) > AXES_INPUT:
        _pad_all_axes(graph, node, sizes)
    elif node.op_type == "Resize":
        plain = {"antialias": 0, "keep_aspect_ratio_policy": b"stretch"}
        for name, default in plain.items():
            if name in attributes and helper.get_attribute_value(attributes[name]) == default:
                node.attribute.remove(attributes[name])
    elif node.op_type == "Reshape" and "allowzero" in attributes:
        shape = constant(graph, node.input[1])
        if not attributes["allowzero"].i or (
            shape is not None and (shape != 0).all()
        ):  # what a 0 means is without effect
            node.attribute.remove(attributes["allowzero"])


def _pad_all_axes(graph: onnx.GraphProto, node: onnx.NodeProto, sizes: dict[str, int]) -> None:
    """Give a Pad no axes and, for 0, the least normal number: optimizers fold a Pad of 0 into the MaxPool behind it."""
    pads, axes = constant(graph, node.input[1]), constant(graph, node.input[AXES_INPUT])
    rank = sum(1 for key in sizes if key.rpartition("@")[0] == node.output[0])
    if pads is None or axes is None or not rank:
        return
    every = np.zeros((2, rank), dtype=np.int64)
    every[:, axes.astype(np.int64)] = pads.reshape(2, -1)
    value = constant(graph, node.input[2]) if node.input[2] else np.zeros((), np.float32)
    if value is None:
        return
    value = np.where(value == 0, np.finfo(np.float32).tiny, value).astype(np.float32)
    node.input[1], node.input[2] = f"{node.output[0]}/all/pads", f"{node.output[0]}/all/value"
    del node.input[AXES_INPUT:]
    graph.initializer.append(numpy_helper.from_array(every.reshape(-1), node.input[1]))
    graph.initializer.append(numpy_helper.from_array(value, node.input[2]))


def _sizes(graph: onnx.GraphProto) -> dict[str, int]:
    return {
        f"{value.name}@{axis}": dim.dim_value
        for value in graph.value_info
        for axis, dim in enumerate(value.type.tensor_type.shape.dim)
    }


def _check(node: onnx.NodeProto, opset: int) -> None:
    try:
        schema = defs.get_schema(node.op_type, opset, "")
        unknown = sorted({attribute.name for attribute in node.attribute} - set(schema.attributes))
        fits = not unknown and len(node.input) <= schema.max_input
        reason = f"attribute {unknown[0]}" if unknown else f"{len(node.input)} inputs"
    except defs.SchemaError:
        fits, reason = False, "no such operator"
    if not fits:
        raise ExportError(
            f"opset {opset} cannot be had for this module ({node.op_type} of '{node.name}': {reason})",
            expected="operators that this opset has",
            hint="take one from 18 to 23",
        )


def lower_opset(model: onnx.ModelProto, opset: int) -> PassResult:
    """Write the standard operators of a graph in an older opset.

    Of what changed between 13 and 18 a detector meets few: Split lost its number of outputs, reductions take their axes as an
    attribute, a Pad its axes, Resize and Reshape lack attributes whose defaults mean the same.

    Requires:
        A graph of opset 18 with recorded shapes.

    Ensures:
        Every node is one of ``opset`` and computes the same; other domains are untouched.

    Raises:
        ExportError: An operator has no form in ``opset``.
    """
    if opset >= NEWEST:
        return PassResult(model, modified=False)
    result = copy_of(model)
    graph = result.graph
    sizes = _sizes(graph)
    for node in graph.node:
        if node.domain in STANDARD:
            _lower(graph, node, sizes)
            _check(node, opset)
    for entry in result.opset_import:
        if entry.domain in STANDARD:
            entry.version = opset
    return PassResult(result, modified=True)
