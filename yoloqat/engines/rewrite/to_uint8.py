"""The equivalent graph of a QDQ graph with uint8 activations: the same arithmetic in integers that CPU kernels run fast.

x86 dot products multiply unsigned by signed bytes, so CPU engines want unsigned activations. A signed integer q with
zero-point 0 and the unsigned integer q + z with zero-point z stand for the same real value and round the same way (ONNX adds
the zero-point after rounding). With z = 128 they also saturate at the same values.

Processors without VNNI add two such products in 16 bits and saturate there: with z = 128 even moderate activations are
large integers, and the sums overflow. Where the values are known not to fall below b, as after a SiLU, z = -b / scale is
enough; the integers then stay below 128 + z, and only pairs of nearly largest weights can still overflow. A Clip before the
quantizer keeps the upper limit where the signed integers had it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from yoloqat.engines.rewrite.lower_bounds import lower_bounds
from yoloqat.engines.rewrite.propagate import shared_scale_groups
from yoloqat.onnx_graph.graph import consumers, copy_of, initializers, remove_unread_initializers, replace_nodes
from yoloqat.onnx_graph.operators import DEQUANTIZE, QUANTIZE

_SHIFT = 128
_HIGH = 127
# a runtime's sigmoid may stray from the true one by a few units in the last place
_MARGIN = 1.0001


@dataclass(frozen=True)
class Uint8Graph:
    """An equivalent graph with uint8 activations.

    Attributes:
        model: The graph; its float outputs equal those of the signed graph bit for bit.
        zero_points: Name of each rewritten QuantizeLinear, to its new zero-point.
    """

    model: onnx.ModelProto
    zero_points: dict[str, int]


def _signed_activations(graph: onnx.GraphProto) -> list[list[onnx.NodeProto]]:
    """Return each signed per-tensor QuantizeLinear, followed by the DequantizeLinears that alone read its integers."""
    single = [tensor for tensor in graph.initializer if math.prod(tensor.dims) == 1]
    points = {tensor.name for tensor in single if tensor.data_type == TensorProto.INT8}
    scales = {tensor.name for tensor in single}
    outputs = {value.name for value in graph.output}
    readers = consumers(graph.node)
    found = []
    for node in graph.node:
        if (
            node.op_type != QUANTIZE
            or len(node.input) < 3
            or node.input[2] not in points
            or node.input[1] not in scales
        ):
            continue
        behind = readers.get(node.output[0], [])
        pairs = [r for r in behind if r.op_type == DEQUANTIZE and len(r.input) == 3 and r.input[2] in points]
        if behind and len(pairs) == len(behind) and node.output[0] not in outputs:
            found.append([node, *pairs])
    return found


def tight_zero_point(low: float | None, scale: float) -> int:
    """Return the least unsigned zero-point that loses no integer of values that are at least ``low``, at most 128."""
    if low is None:
        return _SHIFT
    return min(_SHIFT, max(0, math.floor(-low * _MARGIN / scale + 0.5)))


def to_uint8(model: onnx.ModelProto, *, tight: bool = True, bounds: Mapping[str, float] | None = None) -> Uint8Graph:
    """Rewrite each signed 8-bit quantizer of an activation to uint8; weights stay signed.

    A quantizer whose integers something else than a DequantizeLinear reads is left as it is.

    Args:
        model: A QDQ graph in topological order; it is not changed.
        tight: Give a quantizer with zero-point 0 the least zero-point that its values need, and a Clip that keeps the
            upper limit; otherwise raise every zero-point by 128.
        bounds: Lower bounds of the tensors; by default what :func:`lower_bounds` finds.

    Returns:
        The equivalent graph and its zero-points.
    """
    if bounds is None:
        bounds = lower_bounds(model) if tight else {}
    result = copy_of(model)
    graph = result.graph
    constants = {name: numpy_helper.to_array(tensor) for name, tensor in initializers(graph).items()}
    activations = _signed_activations(graph)
    raised_by = _raised(model, [units[0] for units in activations], constants, bounds if tight else None)
    zero_points: dict[str, int] = {}
    clips: dict[str, onnx.NodeProto] = {}
    retyped: set[str] = set()
    for quantizer, *dequantizers in activations:
        old, scale = int(constants[quantizer.input[2]].item()), constants.get(quantizer.input[1])
        raised = raised_by[quantizer.name]
        if old == 0 and scale is not None and raised < _SHIFT:
            clips[quantizer.name] = _clip(graph, quantizer, np.float32(_HIGH) * scale.astype(np.float32))
        name = f"{quantizer.output[0]}/zero_point_u8"
        shape = constants[quantizer.input[2]].shape
        graph.initializer.append(numpy_helper.from_array(np.full(shape, raised, dtype=np.uint8), name))
        for node in (quantizer, *dequantizers):
            node.input[2] = name
        for attribute in quantizer.attribute:
            if attribute.name == "output_dtype":
                attribute.i = TensorProto.UINT8
        zero_points[quantizer.name] = raised
        retyped.add(quantizer.output[0])
    for value in graph.value_info:
        if value.name in retyped:
            value.type.tensor_type.elem_type = TensorProto.UINT8
    clipped = ((clips.get(node.name) if node.op_type == QUANTIZE else None, node) for node in graph.node)
    replace_nodes(graph, [node for pair in clipped for node in pair if node is not None])
    remove_unread_initializers(graph)
    return Uint8Graph(result, zero_points)


def _raised(
    model: onnx.ModelProto,
    quantizers: list[onnx.NodeProto],
    constants: Mapping[str, np.ndarray[Any, Any]],
    bounds: Mapping[str, float] | None,
) -> dict[str, int]:
    """Return the unsigned zero-point of each quantizer by name; those of a group get the highest among them."""
    groups = shared_scale_groups(model)
    wanted: dict[str, int] = {}
    for quantizer in quantizers:
        old, scale = int(constants[quantizer.input[2]].item()), constants.get(quantizer.input[1])
        raised = old + _SHIFT
        if bounds is not None and old == 0 and scale is not None:
            raised = tight_zero_point(bounds.get(quantizer.input[0]), float(scale.item()))
        wanted[quantizer.name] = raised
    highest: dict[str, int] = {}
    for name, raised in wanted.items():
        highest[groups[name]] = max(raised, highest.get(groups[name], 0))
    return {name: highest[groups[name]] for name in wanted}


def _clip(
    graph: onnx.GraphProto, quantizer: onnx.NodeProto, high: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
) -> onnx.NodeProto:
    """Return a Clip at the real value of the integer 127, which ``quantizer`` then reads."""
    limit, output = f"{quantizer.output[0]}/high", f"{quantizer.output[0]}/clipped"
    graph.initializer.append(numpy_helper.from_array(high.reshape(()), limit))
    node = helper.make_node("Clip", [quantizer.input[0], "", limit], [output], name=f"{quantizer.name}/Clip")
    quantizer.input[0] = output
    return node
