from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from c2f_graph import SIDE, c2f
from onnx import helper

from yoloqat.engines import build_openvino
from yoloqat.engines.ort import session_options
from yoloqat.engines.rewrite.propagate import propagate_quantizers, shared_scale_groups
from yoloqat.engines.rewrite.to_uint8 import to_uint8

IMAGE = np.random.default_rng(1).uniform(0, 1, (1, 3, SIDE, SIDE)).astype(np.float32)


def run(model: onnx.ModelProto) -> np.ndarray:
    options = session_options(threads=1, optimize=False)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": IMAGE})[0]


def quantized_by(model: onnx.ModelProto, kind: str) -> list[str]:
    """Return the operators that make what the first node of a kind reads."""
    made = {name: node.op_type for node in model.graph.node for name in node.output}
    node = next(node for node in model.graph.node if node.op_type == kind)
    return [made[name] for name in (node.input if kind == "Concat" else node.input[:1])]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("unsigned", [True, False])
def test_the_same_bits_with_values_moved_as_integers(seed, unsigned):
    model = to_uint8(c2f(seed=seed)).model if unsigned else c2f(seed=seed)
    propagated = propagate_quantizers(model)
    onnx.checker.check_model(propagated)
    np.testing.assert_array_equal(run(propagated), run(c2f(seed=seed)))
    assert quantized_by(model, "Concat") == ["Split", "Split", "Add", "Resize"]
    # what is not quantized right before was: the halves of a split, and what was pooled and resized
    assert quantized_by(propagated, "Concat") == ["Split", "Split", "DequantizeLinear", "Resize"]
    for kind in ("Split", "MaxPool"):
        assert quantized_by(propagated, kind) == ["DequantizeLinear"]
    assert quantized_by(propagated, "Resize") == ["MaxPool"]


def test_another_scale_stays_where_it_is():
    model = c2f(residual_scale=0.5 / 127)
    propagated = propagate_quantizers(model)
    assert quantized_by(propagated, "Split") == ["Mul"]
    assert quantized_by(propagated, "Concat") == ["DequantizeLinear"] * 3 + ["Resize"]
    np.testing.assert_array_equal(run(propagated), run(model))


def test_a_tensor_that_is_also_an_output_keeps_its_values():
    model = c2f()
    model.graph.output.append(helper.make_tensor_value_info("joined", onnx.TensorProto.FLOAT, [1, 16, SIDE, SIDE]))
    assert quantized_by(propagate_quantizers(model), "Concat") == ["Split", "Split", "Add", "Resize"]


def test_a_second_reader_that_takes_floats_stops_it():
    model = c2f()
    model.graph.node.append(helper.make_node("Relu", ["joined"], ["other"]))
    model.graph.output.append(helper.make_tensor_value_info("other", onnx.TensorProto.FLOAT, [1, 16, SIDE, SIDE]))
    assert quantized_by(propagate_quantizers(model), "Concat") == ["Split", "Split", "Add", "Resize"]


def test_interpolation_is_no_move():
    model = c2f()
    node = next(node for node in model.graph.node if node.op_type == "Resize")
    del node.attribute[:]
    node.attribute.append(helper.make_attribute("mode", "linear"))
    propagated = propagate_quantizers(model)
    assert quantized_by(propagated, "Resize") == ["MaxPool"]
    assert quantized_by(propagated, "MaxPool") == ["Add"]


def test_the_source_is_not_changed_and_a_float_graph_stays():
    model = c2f()
    before = model.SerializeToString()
    propagate_quantizers(model)
    assert model.SerializeToString() == before
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [], [])
    floating = helper.make_model(graph)
    assert propagate_quantizers(floating) == floating


def test_quantizers_that_will_meet_get_one_zero_point():
    model = c2f()
    groups = shared_scale_groups(model)
    assert groups["inner/in/QuantizeLinear"] == groups["last/in/QuantizeLinear"]
    assert groups["first/in/QuantizeLinear"] != groups["last/in/QuantizeLinear"]
    points = to_uint8(model).zero_points
    # the sum of two SiLUs falls twice as low as one: 2 * 0.27846 / (2 / 127), where one alone would need 18
    assert points["inner/in/QuantizeLinear"] == points["last/in/QuantizeLinear"] == 36
    apart = to_uint8(c2f(residual_scale=1.0 / 127)).zero_points
    assert apart["inner/in/QuantizeLinear"] == 35


def test_openvino_moves_integers(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(c2f(), path)
    layers = build_openvino(path, tmp_path / "ir").precision.layers
    moved = {layer.type: layer.precision for layer in layers if layer.type in ("Concatenation", "Concat", "Split")}
    assert moved
    assert set(moved.values()) <= {"u8", "i8"}
