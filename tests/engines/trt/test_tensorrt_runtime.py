from __future__ import annotations

import gc
import sys

import numpy as np
import onnx
import pytest

from yoloqat.engines import OnnxPredictor, bench
from yoloqat.engines.tensorrt import Span, TensorRTOptions, TensorRTPredictor, build_tensorrt, load_cuda
from yoloqat.errors import ConfigError, DependencyError, EngineError, ModelError
from yoloqat.predictor import Predictor


@pytest.fixture
def engine(trt, qdq_path, tmp_path):
    build_tensorrt(qdq_path, tmp_path / "model.engine", tensorrt=trt)
    return tmp_path / "model.engine"


@pytest.fixture
def open_engine_path(trt, tiny, tmp_path):
    onnx.save(tiny(batch="n"), tmp_path / "open.onnx")
    options = TensorRTOptions(batch=Span(1, 2, 4))
    build_tensorrt(tmp_path / "open.onnx", tmp_path / "open.engine", options, tensorrt=trt)
    return tmp_path / "open.engine"


def test_it_is_a_predictor_that_computes_the_file(trt, world, engine, qdq_path, images):
    predictor = TensorRTPredictor(engine, tensorrt=trt, cuda=world.cuda)
    assert isinstance(predictor, Predictor)
    for values in (images, images[..., ::-1].copy(), images):
        (found,), (wanted,) = predictor(values), OnnxPredictor(qdq_path)(values)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_calls_replay_one_graph(trt, world, engine, images):
    predictor = TensorRTPredictor(engine, tensorrt=trt, cuda=world.cuda)
    for _ in range(3):
        predictor(images)
    calls = world.cuda.calls
    assert (calls.count("cudaGraphInstantiate"), calls.count("cudaGraphLaunch")) == (1, 3)
    assert calls.count("cudaMemcpyAsync") == 4  # one warming run and one captured one, two copies each
    assert predictor.not_captured is None


def test_results_are_copies(trt, world, engine, images):
    predictor = TensorRTPredictor(engine, tensorrt=trt, cuda=world.cuda)
    first = predictor(images)[0]
    kept = first.copy()
    predictor(np.zeros_like(images))
    np.testing.assert_array_equal(first, kept)


def test_without_a_graph(trt, world, engine, images):
    replayed = TensorRTPredictor(engine, tensorrt=trt, cuda=world.cuda)(images)[0]
    plain = TensorRTPredictor(engine, tensorrt=trt, cuda=world.cuda, graph=False)
    np.testing.assert_array_equal(plain(images)[0], replayed)
    assert plain.not_captured == "not asked for"


def test_an_engine_that_cannot_be_captured_still_runs(trt, world, engine, images, qdq_path):
    world.capturable = False
    predictor = TensorRTPredictor(engine, tensorrt=trt, cuda=world.cuda)
    for _ in range(2):
        np.testing.assert_allclose(predictor(images)[0], OnnxPredictor(qdq_path)(images)[0], atol=1e-5)
    assert predictor.not_captured is not None
    assert "stream is capturing" in predictor.not_captured
    predictor.close()
    assert world.cuda.live == 0


def test_a_graph_that_cuda_refuses(trt, world, engine, images):
    world.cuda.fail["cudaGraphInstantiate"] = "cudaErrorMemoryAllocation"
    predictor = TensorRTPredictor(engine, tensorrt=trt, cuda=world.cuda)
    predictor(images)
    assert predictor.not_captured == "CUDA's cudaGraphInstantiate failed with cudaErrorMemoryAllocation"


def test_open_batch_takes_each_of_its_span(trt, world, open_engine_path, images):
    predictor = TensorRTPredictor(open_engine_path, tensorrt=trt, cuda=world.cuda)
    reference = OnnxPredictor(open_engine_path.with_suffix(".onnx"))
    for count in (1, 4, 2, 2):
        batch = np.concatenate([images * (index + 1) / 4 for index in range(count)])
        np.testing.assert_allclose(predictor(batch)[0], reference(batch)[0], atol=1e-5)
    with pytest.raises(EngineError, match=r"images have the shape \(5, 3, 16, 16\).*\(4, 3, 16, 16\), as the engine"):
        predictor(np.zeros((5, 3, 16, 16), np.float32))
    predictor.close()
    assert world.cuda.live == 0


def test_memory_is_freed_with_the_predictor(trt, world, engine, images):
    predictor = TensorRTPredictor(engine, tensorrt=trt, cuda=world.cuda)
    predictor(images)
    predictor.close()
    assert world.cuda.live == 0
    another = TensorRTPredictor(engine, tensorrt=trt, cuda=world.cuda)
    del another
    gc.collect()
    assert world.cuda.live == 0


def test_half_precision_input(trt, world, tiny, tmp_path, images):
    model = tiny(quantized=False)
    model.graph.input[0].name = "half"
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    model.graph.node.insert(0, onnx.helper.make_node("Cast", ["half"], ["images"], name="cast", to=1))
    onnx.save(model, tmp_path / "half.onnx")
    build_tensorrt(tmp_path / "half.onnx", tmp_path / "half.engine", tensorrt=trt)
    onnx.save(tiny(quantized=False), tmp_path / "float.onnx")
    predictor = TensorRTPredictor(tmp_path / "half.engine", tensorrt=trt, cuda=world.cuda)
    np.testing.assert_allclose(predictor(images)[0], OnnxPredictor(tmp_path / "float.onnx")(images)[0], atol=0.1)


def test_precision_of_a_loaded_engine(trt, world, engine):
    layers = TensorRTPredictor(engine, tensorrt=trt, cuda=world.cuda).layers
    assert (len(layers.precision.int8_convolutions), len(layers.precision.convolutions)) == (2, 2)
    assert layers.detailed


def test_latency_percentiles(trt, world, engine, images):
    predictor = TensorRTPredictor(engine, tensorrt=trt, cuda=world.cuda)
    (item,) = bench({"engine": predictor}, images, warmup=1, rounds=3)
    assert set(item.latency_ms) == {"p50", "p95", "p99"}


def test_too_little_memory(trt, world, engine):
    world.memory = False
    with pytest.raises(EngineError, match=r"cannot make an execution context \(Error Code 2: OutOfMemory"):
        TensorRTPredictor(engine, tensorrt=trt, cuda=world.cuda)
    world.memory = True
    world.cuda.fail["cudaMalloc"] = "cudaErrorMemoryAllocation"
    with pytest.raises(EngineError, match="CUDA's cudaMalloc failed with cudaErrorMemoryAllocation"):
        TensorRTPredictor(engine, tensorrt=trt, cuda=world.cuda)


def test_no_such_device(trt, world, engine):
    with pytest.raises(ConfigError, match="device is -1"):
        TensorRTPredictor(engine, device=-1, tensorrt=trt, cuda=world.cuda)
    world.cuda.fail["cudaSetDevice"] = "cudaErrorInvalidDevice"
    with pytest.raises(EngineError, match="cudaSetDevice failed with cudaErrorInvalidDevice"):
        TensorRTPredictor(engine, device=7, tensorrt=trt, cuda=world.cuda)


def test_an_engine_that_fails_when_run(trt, world, engine, images):
    predictor = TensorRTPredictor(engine, tensorrt=trt, cuda=world.cuda)
    world.runs = False
    with pytest.raises(EngineError, match=r"TensorRT cannot run the engine \(operation not permitted"):
        predictor(images)


def test_output_whose_type_numpy_lacks(trt, world, tiny, tmp_path):
    model = tiny(quantized=False)
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.BFLOAT16
    onnx.save(model, tmp_path / "odd.onnx")
    build_tensorrt(tmp_path / "odd.onnx", tmp_path / "odd.engine", tensorrt=trt)
    with pytest.raises(EngineError, match=r"'output0' of the engine is .*BF16"):
        TensorRTPredictor(tmp_path / "odd.engine", tensorrt=trt, cuda=world.cuda)


def test_damaged_plan(trt, world, engine):
    data = engine.read_bytes()
    start = 4 + int.from_bytes(data[:4], "little")
    engine.write_bytes(data[:start] + b"rubbish")
    with pytest.raises(EngineError, match=r"cannot load the engine .the engine plan file is not readable"):
        TensorRTPredictor(engine, tensorrt=trt, cuda=world.cuda)


def test_missing_file_comes_before_a_missing_package(tmp_path):
    with pytest.raises(ModelError, match=r"cannot read '.*none\.engine'"):
        TensorRTPredictor(tmp_path / "none.engine")


def test_cuda_bindings_are_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    with pytest.raises(DependencyError, match=r"CUDA's Python bindings cannot be imported .*pip install cuda-bindings"):
        load_cuda()
