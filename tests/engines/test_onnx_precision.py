"""What a file is called follows from its operators and the types of its weights."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from yoloqat.engines import PrecisionMap
from yoloqat.engines.onnx_precision import weighted_ops
from yoloqat.engines.precision import LayerPrecision

DQ = ("DequantizeLinear", ["{0}q", "s", "z"], "{0}")


def model(*nodes, weights=None, inner=False):
    """A graph of (operator, inputs, output) and weights by name; with ``inner`` in the branch of an If."""
    made = [helper.make_node(op, inputs, [output], name=output) for op, inputs, output in nodes]
    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items()]
    if inner:
        branch = helper.make_graph(
            made, "branch", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], held
        )
        made, held = [helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)], []
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    return helper.make_model(helper.make_graph(made, "g", [value], [value], held))


def dequantized(name):
    return DQ[0], [part.format(name) for part in DQ[1]], DQ[2].format(name)


F32, F16 = np.zeros(1, np.float32), np.zeros(1, np.float16)
INT8, INT16 = np.zeros(1, np.int8), np.zeros(1, np.int16)
CONV = ("Conv", ["x", "w"], "y")


@pytest.mark.parametrize(
    ("nodes", "weights", "label"),
    [
        ([CONV], {"w": F32}, "float32"),
        ([CONV], {"w": F16}, "float16"),
        ([CONV, ("Conv", ["x", "v"], "z")], {"w": F16, "v": F32}, "float16 + float32"),
        ([("Identity", ["h"], "w"), CONV], {"h": F16}, "float16"),
        ([("QLinearConv", list("xabwcd"), "y")], {"w": INT8}, "int8 1/1"),
        ([("QLinearConv", list("xabwcd"), "y"), ("Conv", ["x", "v"], "z")], {"w": INT8, "v": F32}, "int8 1/2"),
        ([("ConvInteger", ["x", "w"], "y"), ("MatMulInteger", ["y", "w"], "z")], {"w": INT8}, "int8 2/2"),
        ([("QGemm", list("xabwcd"), "y")], {"w": INT8}, "int8 1/1"),
        ([("QLinearMatMul", list("xabwcdef"), "y")], {"w": INT8}, "int8 1/1"),
        ([("DynamicQuantizeMatMul", ["x", "w"], "y")], {"w": INT8}, "int8 1/1"),
        ([dequantized("x"), dequantized("w"), CONV], {"wq": INT8}, "QDQ"),
        ([dequantized("x"), dequantized("w"), CONV], {"wq": INT16}, "QDQ int16"),
        ([dequantized("x"), dequantized("w"), CONV, ("Conv", ["x", "v"], "z")], {"wq": INT8, "v": F16}, "QDQ, float16"),
        ([dequantized("w"), CONV], {"wq": INT8}, "int8 weights"),
        ([("MatMulNBits", ["x", "w"], "y")], {"w": INT8}, "int4 weights"),
        ([CONV, ("MatMul", ["y", "y"], "z")], {"w": F32}, "float32"),
        ([("MatMul", ["x", "x"], "z")], {}, "not told"),
        ([("Gemm", ["x", "w"], "z")], {"w": F16}, "float16"),
    ],
)
def test_the_label_of_a_file(nodes, weights, label):
    assert weighted_ops(model(*nodes, weights=weights)).label == label
    if all(op != "DequantizeLinear" for op, *_ in nodes):
        assert weighted_ops(model(*nodes, weights=weights, inner=True)).label.startswith(label.split("/")[0][:4])


@pytest.mark.parametrize(
    ("precisions", "label"),
    [
        (["u8", "i8", "f32"], "int8 2/3"),
        (["f32", "f32"], "float32"),
        (["f16"], "float16"),
        (["bf16", "f32"], "bfloat16 + float32"),
        (["unknown"], "unknown"),
        ([], "not told"),
    ],
)
def test_the_label_of_an_engine(precisions, label):
    layers = tuple(LayerPrecision(str(i), "Convolution", kind, "", 1) for i, kind in enumerate(precisions))
    assert PrecisionMap(layers, frozenset()).label == label
