from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from yoloqat.engines import OnnxPredictor
from yoloqat.errors import ConfigError, EngineError, ModelError
from yoloqat.predictor import Predictor


def test_it_is_a_predictor_and_runs_the_graph(qdq_path, images):
    predictor = OnnxPredictor(qdq_path)
    assert isinstance(predictor, Predictor)
    assert predictor.info.names == {0: "cat", 1: "dog"}
    session = onnxruntime.InferenceSession(qdq_path, providers=["CPUExecutionProvider"])
    (output,) = predictor(images)
    assert output.dtype == np.float32
    np.testing.assert_allclose(output, session.run(None, {"images": images})[0], atol=1e-4)


@pytest.mark.parametrize("optimize", [True, False])
def test_two_sessions_give_the_same_bits(qdq_path, images, optimize):
    first, second = (OnnxPredictor(qdq_path, threads=2, optimize=optimize)(images)[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_threads_below_one_are_refused(qdq_path):
    with pytest.raises(ConfigError, match="threads is 0"):
        OnnxPredictor(qdq_path, threads=0)


def test_images_of_another_size_are_refused(qdq_path):
    with pytest.raises(EngineError, match=r"images have the shape \(1, 3, 8, 16\)"):
        OnnxPredictor(qdq_path)(np.zeros((1, 3, 8, 16), dtype=np.float32))


def test_operator_that_the_runtime_lacks(tiny, tmp_path):
    model = tiny()
    model.graph.node[-1].op_type = "NoSuchOperator"
    onnx.save(model, tmp_path / "odd.onnx")
    with pytest.raises(ModelError, match=r"ONNX Runtime cannot load '.*odd\.onnx' \(.*NoSuchOperator"):
        OnnxPredictor(tmp_path / "odd.onnx")


def test_half_precision_input_is_refused(tmp_path):
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT16, [1, 3, 8, 8]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "half", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    helper.set_model_props(model, {"names": "['a']"})
    onnx.save(model, tmp_path / "half.onnx")
    with pytest.raises(ModelError, match=r"the input of '.*half\.onnx' is tensor\(float16\)"):
        OnnxPredictor(tmp_path / "half.onnx")
