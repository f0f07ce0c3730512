from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from yoloqat.engines import to_uint8


def run(model, images):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images})[0]


@pytest.mark.parametrize("tight", [True, False])
@pytest.mark.parametrize("high", [0.5, 3.0], ids=["in range", "beyond amax"])
def test_outputs_are_bit_identical(tiny, tight, high):
    model = tiny()
    made = to_uint8(model, tight=tight)
    onnx.checker.check_model(made.model, full_check=True)
    images = np.random.default_rng(0).uniform(0, high, (1, 3, 16, 16)).astype(np.float32)
    np.testing.assert_array_equal(run(model, images), run(made.model, images))


def test_negative_images_too_without_tightness(tiny, images):
    model = tiny()
    np.testing.assert_array_equal(run(model, -images), run(to_uint8(model, tight=False).model, -images))


def test_zero_points(tiny):
    model = tiny()
    silu = round(0.27846 / (4.0 / 127))
    assert to_uint8(model).zero_points == {"first/input/QuantizeLinear": 0, "second/input/QuantizeLinear": silu}
    assert set(to_uint8(model, tight=False).zero_points.values()) == {128}
    given = to_uint8(model, bounds={"images": -1.0}).zero_points
    assert given == {"first/input/QuantizeLinear": 127, "second/input/QuantizeLinear": 128}


def test_activations_become_unsigned_and_weights_stay_signed(tiny):
    graph = to_uint8(tiny()).model.graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            signed = node.name.endswith("/w")
            assert types[node.input[2]] == (TensorProto.INT8 if signed else TensorProto.UINT8)
    assert not {"first/z", "second/z"} & set(types)


def test_signed_zero_point_is_raised(tiny):
    model = tiny()
    for tensor in model.graph.initializer:
        if tensor.name == "second/z":
            tensor.CopyFrom(numpy_helper.from_array(np.array(-100, dtype=np.int8), "second/z"))
    made = to_uint8(model)
    assert made.zero_points["second/input/QuantizeLinear"] == 28
    images = np.random.default_rng(0).uniform(0, 1, (1, 3, 16, 16)).astype(np.float32)
    np.testing.assert_array_equal(run(model, images), run(made.model, images))


def test_float_graph_and_equivalent_are_left_alone(tiny):
    model = tiny(quantized=False)
    made = to_uint8(model)
    assert (made.zero_points, made.model) == ({}, model)
    once = to_uint8(tiny())
    again = to_uint8(once.model)
    assert (again.zero_points, again.model) == ({}, once.model)


def test_codes_that_something_else_reads_stay_signed(tiny):
    model = tiny()
    model.graph.node.append(helper.make_node("Cast", ["second/q"], ["cast"], to=TensorProto.FLOAT))
    assert set(to_uint8(model).zero_points) == {"first/input/QuantizeLinear"}


def test_codes_that_are_an_output_stay_signed(tiny):
    model = tiny()
    model.graph.output.append(helper.make_tensor_value_info("second/q", TensorProto.INT8, None))
    assert set(to_uint8(model).zero_points) == {"first/input/QuantizeLinear"}


def test_given_model_is_not_changed(tiny):
    model = tiny()
    before = model.SerializeToString(deterministic=True)
    to_uint8(model)
    assert model.SerializeToString(deterministic=True) == before
