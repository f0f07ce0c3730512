from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from yoloqat.engines import OnnxPredictor
from yoloqat.engines.ort import CPU, providers_for
from yoloqat.errors import ConfigError, DependencyError, EngineError, ModelError
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
    model.graph.node[-1].op_type, model.graph.node[-1].domain = "NoSuchOperator", "somewhere"
    model.opset_import.append(helper.make_opsetid("somewhere", 1))
    onnx.save(model, tmp_path / "odd.onnx")
    with pytest.raises(ModelError, match=r"ONNX Runtime cannot load '.*odd\.onnx' \(.*NoSuchOperator"):
        OnnxPredictor(tmp_path / "odd.onnx")


def test_shapes_that_do_not_fit_each_other(tiny, tmp_path, images):
    model = tiny()
    scales = next(tensor for tensor in model.graph.initializer if tensor.name == "first/ws")
    scales.CopyFrom(numpy_helper.from_array(np.ones(7, np.float32), scales.name))
    onnx.save(model, tmp_path / "odd.onnx")
    predictor = OnnxPredictor(tmp_path / "odd.onnx")
    with pytest.raises(EngineError, match=r"cannot run the model on images of shape \(1, 3, 16, 16\) \(.*Dequantize"):
        predictor(images)


def test_half_precision_input_is_refused(tmp_path):
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT16, [1, 3, 8, 8]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "half", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    helper.set_model_props(model, {"names": "['a']"})
    onnx.save(model, tmp_path / "half.onnx")
    with pytest.raises(ModelError, match=r"the input of '.*half\.onnx' is tensor\(float16\)"):
        OnnxPredictor(tmp_path / "half.onnx")


TENSORRT, CUDA = "TensorrtExecutionProvider", "CUDAExecutionProvider"


@pytest.mark.parametrize(
    ("device", "available", "chosen"),
    [
        ("cpu", [TENSORRT, CUDA, CPU], [CPU]),
        ("0", [TENSORRT, CUDA, CPU], [TENSORRT, CUDA, CPU]),
        ("cuda:1", [CUDA, CPU], [CUDA, CPU]),
        ("cuda", [CUDA, CPU], [CUDA, CPU]),
    ],
)
def test_providers_of_a_device(device, available, chosen):
    found = providers_for(device, available)
    assert [name for name, _ in found] == chosen
    index = {"0": "0", "cuda:1": "1", "cuda": "0"}.get(device)
    assert all(settings == {"device_id": index} for name, settings in found if name != CPU)


def test_a_gpu_without_its_provider(qdq_path, monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["AzureExecutionProvider", CPU])
    with pytest.raises(DependencyError, match="has the providers AzureExecutionProvider, CPUExecutionProvider"):
        OnnxPredictor(qdq_path, device="0")


def test_a_device_of_another_kind():
    with pytest.raises(EngineError, match="asked to run on 'mps'"):
        providers_for("mps", [CPU])


class Session:
    """A session that starts on what is asked for, or falls back to the CPU as ONNX Runtime does."""

    def __init__(self, session, started):
        self.session, self.started = session, started

    def get_inputs(self):
        return self.session.get_inputs()

    def get_providers(self):
        return self.started

    def run(self, *arguments):
        return self.session.run(*arguments)


@pytest.mark.parametrize("started", [[TENSORRT, CUDA, CPU], [CPU]])
def test_a_provider_that_does_not_start_is_told(qdq_path, images, monkeypatch, started):
    real, asked = onnxruntime.InferenceSession, []

    def session(path, options, providers):
        asked.append(providers)
        return Session(real(path, options, providers=[CPU]), started)

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [TENSORRT, CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    if started == [CPU]:
        with pytest.raises(EngineError, match=f"none of ONNX Runtime's {TENSORRT}, {CUDA} starts on device 0"):
            OnnxPredictor(qdq_path, device="0")
    else:
        predictor = OnnxPredictor(qdq_path, device="0")
        assert predictor.providers == tuple(started)
        assert predictor(images)[0].shape == (1, 4, 16, 16)
    assert asked == [[(TENSORRT, {"device_id": "0"}), (CUDA, {"device_id": "0"}), (CPU, {})]]
