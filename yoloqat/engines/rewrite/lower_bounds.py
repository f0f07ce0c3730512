"""How low the values of a graph can get, known from its operators alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import onnx
from onnx import numpy_helper

from yoloqat.onnx_graph.graph import initializers, producers
from yoloqat.onnx_graph.operators import DEQUANTIZE, QUANTIZE, gated_tensor, keeps_lower_bound

SILU_MINIMUM = -0.2784645427610738
"""The minimum of x * sigmoid(x), at x = -1.2784645."""
_FLOORS = {"Sigmoid": 0.0, "Relu": 0.0, "Softmax": 0.0, "HardSigmoid": 0.0, "HardSwish": -0.375}
_Low = float | None


def _node_low(node: onnx.NodeProto, low: Callable[[str], _Low], made: Mapping[str, onnx.NodeProto]) -> _Low:
    lows = [low(name) for name in node.input]
    known = [value for value in lows if value is not None]
    if node.op_type in _FLOORS:
        return _FLOORS[node.op_type]
    if gated_tensor(node, made) is not None:
        return SILU_MINIMUM
    if keeps_lower_bound(node):
        return lows[0]
    if node.op_type in ("Concat", "Add") and len(known) == len(lows):
        return min(known) if node.op_type == "Concat" else sum(known)
    if node.op_type in ("AveragePool", "GlobalAveragePool") and lows[0] is not None:
        return min(lows[0], 0.0)  # padding may count as zeros
    return None


def _rounded_low(
    node: onnx.NodeProto,
    low: Callable[[str], _Low],
    made: Mapping[str, onnx.NodeProto],
    constants: Mapping[str, onnx.TensorProto],
) -> _Low:
    """Return the bound of a dequantized activation: its bound before the quantizer, rounded as that rounds."""
    quantizer = made.get(node.input[0])
    before = low(quantizer.input[0]) if quantizer is not None and quantizer.op_type == QUANTIZE else None
    held = constants.get(node.input[1]) if before is not None else None
    if before is None or held is None or math.prod(held.dims) != 1:
        return None
    scale = float(numpy_helper.to_array(held).item())
    return math.floor(before / scale + 0.5 - 1e-6) * scale


def lower_bounds(model: onnx.ModelProto, *, images: str = "images") -> dict[str, float]:
    """Return for each tensor the value that it cannot fall below, where the operators tell.

    A SiLU never falls below -0.27846; pooling, resizing, slicing and concatenation keep bounds; an addition adds them;
    a quantizer rounds them.

    Args:
        model: A graph in topological order; its tensors need no recorded types.
        images: Name of the image input, whose values are at least 0.

    Returns:
        Bounds by tensor name; a tensor without an entry may have any value.
    """
    made, constants = producers(model.graph), initializers(model.graph)
    bounds: dict[str, float] = {value.name: 0.0 for value in model.graph.input if value.name == images}
    for node in model.graph.node:
        low = _node_low(node, bounds.get, made)
        if node.op_type == DEQUANTIZE:
            low = _rounded_low(node, bounds.get, made, constants)
        if low is not None:
            bounds.update(dict.fromkeys(node.output, low))
    return bounds
