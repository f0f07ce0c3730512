"""Facts about ONNX operators: which have weights, which quantize, and what survives those that pass values on."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import onnx

from yoloqat.onnx_graph.graph import text_attribute

STANDARD = frozenset({"", "ai.onnx"})
"""Names of the domain of the standard operators."""
QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
QUANTIZERS = frozenset({QUANTIZE, DEQUANTIZE})
CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
LAYER_OPS = CONVOLUTIONS | {"Gemm", "MatMul"}
"""Operators with weights."""

_CASTS = frozenset({"Identity", "Cast"})
_RESHAPES = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})
_PARTS = frozenset({"Slice", "Split"})
KEEPS_SHAPE = _CASTS | QUANTIZERS
"""The output has the shape of the first input."""
KEEPS_ORDER = _CASTS | _RESHAPES
"""The output has the values of the first input in their order, perhaps of another type or shape."""
VIEWS = KEEPS_ORDER | {"Dropout", "Transpose"}
"""The output has all values of the first input and no others."""
MOVES_VALUES = VIEWS | _PARTS | {"Gather", "Expand", "Tile", "DepthToSpace", "SpaceToDepth", "MaxPool", "GlobalMaxPool"}
"""Each value of the output is one of the first input; so are those of a nearest resize, see :func:`moves_values`.

Source: TensorRT documentation, Q/DQ propagation: an operator commutes with Q and DQ where Q(Op(x)) == Op(Q(x)).
"""
_KEEPS_SCALE = _RESHAPES | _PARTS | {"Transpose", "MaxPool"}
_PROPAGATES = frozenset({"Concat", "MaxPool", "Split"})


def opset_of(model: onnx.ModelProto) -> int | None:
    """Return the version of the standard operators that ``model`` imports, None where it imports none."""
    return next((int(entry.version) for entry in model.opset_import if entry.domain in STANDARD), None)


def _resizes(node: onnx.NodeProto, *modes: str) -> bool:
    return node.op_type == "Resize" and text_attribute(node, "mode", "nearest") in modes


def moves_values(node: onnx.NodeProto) -> bool:
    """Return whether each value of the output is one of the first input: integers pass through ``node`` unchanged."""
    upsamples = node.op_type == "Upsample" and text_attribute(node, "mode", "nearest") == "nearest"
    return node.op_type in MOVES_VALUES or upsamples or _resizes(node, "nearest")


def keeps_scale(node: onnx.NodeProto) -> bool:
    """Return whether ONNX Runtime computes ``node`` in integers with the qparams of its first input for its output."""
    return node.op_type in _KEEPS_SCALE or _resizes(node, "nearest")


def keeps_lower_bound(node: onnx.NodeProto) -> bool:
    """Return whether no value of the output is below all of the first input; cubic resizing overshoots, a cast may wrap."""
    return keeps_scale(node) or node.op_type == "Identity" or _resizes(node, "linear")


def propagates_quantizers(node: onnx.NodeProto) -> bool:
    """Return whether a quantizer behind ``node`` is as good before it, for OpenVINO to compute it in integers."""
    return node.op_type in _PROPAGATES or _resizes(node, "nearest")


def gated_tensor(
    product: onnx.NodeProto, made: Mapping[str, onnx.NodeProto], gates: Collection[str] = ("Sigmoid",)
) -> str | None:
    """Return the tensor x of which ``product`` is x times a gate of x, as a SiLU is; None where it is no such product.

    Args:
        product: A node.
        made: The node that makes a tensor, by its name.
        gates: Operators that count as gates.
    """
    found = [made[name] for name in product.input if product.op_type == "Mul" and name in made]
    gated = [gate.input[0] for gate in found if gate.op_type in gates and gate.input]
    return next((name for name in gated if name in product.input), None)


def data_inputs(node: onnx.NodeProto) -> list[str]:
    """Return the inputs of an operator that passes values on which are those values."""
    return list(node.input) if node.op_type == "Concat" else list(node.input[:1])
