from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from yoloqat.engines.rewrite.lower_bounds import SILU_MINIMUM, lower_bounds
from yoloqat.engines.rewrite.to_uint8 import tight_zero_point


def graph(*nodes):
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("images", "free")]
    return helper.make_model(helper.make_graph(list(nodes), "g", values, []))


SILU = [helper.make_node("Sigmoid", ["free"], ["gate"]), helper.make_node("Mul", ["free", "gate"], ["silu"])]


def node(kind, inputs, **attributes):
    return helper.make_node(kind, inputs, ["out"], **attributes)


@pytest.mark.parametrize(
    ("last", "low"),
    [
        (node("Mul", ["gate", "free"]), SILU_MINIMUM),
        (node("Mul", ["gate", "images"]), None),
        (node("Relu", ["free"]), 0.0),
        (node("HardSwish", ["free"]), -0.375),
        (node("MaxPool", ["silu"]), SILU_MINIMUM),
        (node("Slice", ["silu", "a", "b"]), SILU_MINIMUM),
        (node("Resize", ["silu", "", "two"]), SILU_MINIMUM),
        (node("Resize", ["silu", "", "two"], mode="cubic"), None),
        (node("Concat", ["silu", "images"], axis=1), SILU_MINIMUM),
        (node("Concat", ["silu", "free"], axis=1), None),
        (node("Add", ["silu", "silu"]), 2 * SILU_MINIMUM),
        (node("Add", ["silu", "constant"]), None),
        (node("GlobalAveragePool", ["images"]), 0.0),
        (node("Conv", ["images", "w"]), None),
        (node("Sub", ["images", "silu"]), None),
    ],
)
def test_rule_of_each_operator(last, low):
    assert lower_bounds(graph(*SILU, last)).get("out") == low


def test_only_the_image_input_is_known_to_be_non_negative():
    model = graph(node("MaxPool", ["free"]))
    assert lower_bounds(model) == {"images": 0.0}
    assert lower_bounds(model, images="free") == {"free": 0.0, "out": 0.0}


@pytest.mark.parametrize(("scale", "low"), [(0.1, -0.3), (0.2, -0.2), (0.5, -0.5)])
def test_a_quantizer_rounds_the_bound(scale, low):
    nodes = [
        helper.make_node("QuantizeLinear", ["silu", "scale", "zero"], ["codes"]),
        helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["out"]),
    ]
    model = graph(*SILU, *nodes)
    assert "out" not in lower_bounds(model)  # the scale is not known
    model.graph.initializer.append(helper.make_tensor("scale", TensorProto.FLOAT, [], [scale]))
    assert lower_bounds(model)["out"] == pytest.approx(low)


def test_empty_graph():
    assert lower_bounds(onnx.ModelProto()) == {}


def test_silu_minimum_is_the_minimum():
    x = np.linspace(-2, 0, 2_000_001)
    assert (x / (1 + np.exp(-x))).min() == pytest.approx(SILU_MINIMUM, abs=1e-12)


@given(
    low=st.floats(-3, 0, width=32),
    scale=st.floats(2.0**-13, 1.0, width=32),
    above=st.floats(0, 4, width=32),
)
def test_tight_zero_point_loses_no_code(low, scale, above):
    point = tight_zero_point(low, scale)
    code = int(np.clip(np.round(np.float32(low + above) / np.float32(scale)), -128, 127))
    assert 0 <= point <= 128
    assert code + point >= 0


@given(low=st.floats(-3, 0, width=32), scale=st.floats(2.0**-6, 1.0, width=32))
def test_tight_zero_point_is_tight(low, scale):
    assert tight_zero_point(low, scale) <= -low / scale * 1.001 + 0.5


def test_unknown_bound_takes_the_middle():
    assert tight_zero_point(None, 0.1) == 128
