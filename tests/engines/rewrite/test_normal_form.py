from __future__ import annotations

import numpy as np
import onnx
import pytest
from c2f_graph import SIDE, c2f
from onnx import helper

from yoloqat.engines import OnnxPredictor, OpenVINOPredictor, build_onnxruntime, build_openvino
from yoloqat.engines.rewrite.normal_form import normal_form

IMAGES = np.random.default_rng(0).uniform(0, 1, (1, 3, SIDE, SIDE)).astype(np.float32)


def foreign() -> onnx.ModelProto:
    """The graph as other exporters write it: no names, scales as Constant nodes, zero-points of 0 left out."""
    model = c2f()
    graph = model.graph
    for node in graph.node:
        node.name = ""
        if node.op_type == "DequantizeLinear" and node.input[0].endswith("/codes"):
            del node.input[2:]  # of signed integers in an initialiser
    scales = [tensor for tensor in graph.initializer if tensor.name.endswith("/s")]
    for tensor in scales:
        graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))
        graph.initializer.remove(tensor)
    onnx.checker.check_model(model)
    return model


@pytest.fixture
def path(tmp_path):
    onnx.save(foreign(), tmp_path / "foreign.onnx")
    return tmp_path / "foreign.onnx"


def test_names_constants_and_zero_points():
    model = normal_form(foreign())
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names) == len(c2f().graph.node)
    assert not [node for node in model.graph.node if node.op_type == "Constant"]
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    quantizers = [node for node in model.graph.node if node.op_type.endswith("quantizeLinear")]
    assert all(constants[node.input[2]].data_type == onnx.TensorProto.INT8 for node in quantizers)


def test_names_that_are_there_stay():
    model = c2f()
    assert normal_form(model) == model
    model.graph.node[1].name = model.graph.node[0].name
    assert [n.name for n in normal_form(model).graph.node[:2]] == [
        "first/in/QuantizeLinear",
        "first/in/QuantizeLinear_0",
    ]


def test_quantizer_without_zero_point_gives_unsigned_integers():
    model = c2f()
    for node in model.graph.node[:2]:
        del node.input[2:]
    constants = {tensor.name: tensor for tensor in normal_form(model).graph.initializer}
    for node in normal_form(model).graph.node[:2]:
        assert constants[node.input[2]].data_type == onnx.TensorProto.UINT8
    model.graph.node[0].attribute.append(helper.make_attribute("output_dtype", onnx.TensorProto.INT8))
    node = normal_form(model).graph.node[1]
    assert {t.name: t.data_type for t in normal_form(model).graph.initializer}[node.input[2]] == onnx.TensorProto.INT8


def test_both_builds_compute_what_the_file_says(path, tmp_path):
    expected = OnnxPredictor(path)(IMAGES)[0]
    build = build_openvino(path, tmp_path / "model_openvino", split_above=0.0)
    assert len(build.precision.int8_convolutions) == 3
    np.testing.assert_allclose(OpenVINOPredictor(tmp_path / "model_openvino")(IMAGES)[0], expected, atol=0.02)
    assert len(build_onnxruntime(path, tmp_path / "equivalent.onnx", [IMAGES]).precision.int8_convolutions) == 3
    np.testing.assert_allclose(OnnxPredictor(tmp_path / "equivalent.onnx")(IMAGES)[0], expected, atol=0.3)
