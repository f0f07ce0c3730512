"""A real engine, where TensorRT, CUDA's bindings and a GPU are: built, run, scored."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

from yoloqat.cli import main
from yoloqat.engines import OnnxPredictor, bench
from yoloqat.engines.tensorrt import Span, TensorRTOptions, TensorRTPredictor, build_tensorrt, load_cuda, load_tensorrt
from yoloqat.errors import DependencyError

pytestmark = [pytest.mark.gpu, pytest.mark.slow]


@pytest.fixture(scope="module", autouse=True)
def gpu():
    try:
        load_tensorrt()
        error, count = load_cuda().cudaGetDeviceCount()
    except DependencyError as missing:
        pytest.skip(str(missing))
    if int(error) or not count:
        pytest.skip(f"CUDA counts {count} devices ({error})")


def test_every_quantized_convolution_runs_in_integers_and_agrees(tiny_onnx, tmp_path):
    cache = TensorRTOptions(timing_cache=tmp_path / "timing.cache")
    build = build_tensorrt(tiny_onnx, tmp_path / "model.engine", cache)
    assert build.layers.detailed
    assert build.layers.precision.int8_mac_share == 1.0
    assert build_tensorrt(tiny_onnx, tmp_path / "model.engine", cache).from_timing_cache
    predictor, reference = TensorRTPredictor(tmp_path / "model.engine"), OnnxPredictor(tiny_onnx)
    height, width = predictor.info.imgsz
    images = np.random.default_rng(0).random((1, 3, height, width), dtype=np.float32)
    found, wanted = predictor(images)[0], reference(images)[0]
    assert predictor.not_captured is None
    np.testing.assert_array_equal(predictor(images)[0], found)
    spread = np.abs(wanted).max(axis=(0, 2), keepdims=True)
    assert np.median(np.abs(found - wanted) / spread) < 0.01
    plain = TensorRTPredictor(tmp_path / "model.engine", graph=False)
    np.testing.assert_array_equal(plain(images)[0], found)
    (item,) = bench({"engine": predictor}, images, warmup=5, rounds=20)
    assert item.latency_ms["p50"] > 0


def test_open_batch(tiny, tmp_path, images):
    onnx.save(tiny(batch="n"), tmp_path / "open.onnx")
    build_tensorrt(tmp_path / "open.onnx", tmp_path / "open.engine", TensorRTOptions(batch=Span(1, 2, 4)))
    predictor, reference = TensorRTPredictor(tmp_path / "open.engine"), OnnxPredictor(tmp_path / "open.onnx")
    for count in (1, 4, 2):
        batch = np.concatenate([images * (index + 1) / 4 for index in range(count)])
        # one flipped rounding of an activation (4/127) times the largest weight (127 * 0.006)
        assert np.abs(predictor(batch)[0] - reference(batch)[0]).max() < 4 / 127 * 127 * 0.006 * 1.5


def test_score_of_the_engine_is_that_of_the_file(tiny_onnx, tiny_data, tmp_path):
    ends = ["--data", str(tiny_data.yaml), "--out"]
    assert main(["build", str(tiny_onnx), "--engine", "tensorrt", *ends, str(tmp_path / "build")]) == 0
    assert main(["eval", str(tiny_onnx), *ends, str(tmp_path / "onnx")]) == 0
    found, wanted = (json.loads((tmp_path / name / "result.json").read_text())["results"] for name in ("build", "onnx"))
    assert found["map_engine"] == pytest.approx(wanted["map50_95"], abs=0.02)
