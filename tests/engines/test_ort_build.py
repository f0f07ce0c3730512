from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from c2f_graph import SIDE, c2f

from yoloqat.engines import OnnxPredictor, build_onnxruntime
from yoloqat.engines.ort_build import KEY, measure_ranges
from yoloqat.errors import CalibrationError, ModelError, OutputError

IMAGES = [np.random.default_rng(seed).uniform(0, 1, (1, 3, SIDE, SIDE)).astype(np.float32) for seed in range(3)]


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(c2f(), path)
    return path


def test_convolutions_run_in_integers(source, tmp_path):
    build = build_onnxruntime(source, tmp_path / "model_ort.onnx", IMAGES)
    assert {layer.name for layer in build.precision.int8_convolutions} == {"first", "inner", "last"}
    assert build.precision.int8_mac_share == 1.0
    assert build.operators["QLinearConv"] == 3
    assert "Conv" not in build.operators
    macs = {layer.name: layer.macs for layer in build.precision.layers}
    assert macs == {"first": 64 * 8 * 27, "inner": 64 * 4 * 36, "last": 64 * 6 * 144}


def test_the_file_says_what_it_is_and_runs(source, tmp_path):
    out = tmp_path / "model_ort.onnx"
    build_onnxruntime(source, out, IMAGES)
    predictor, reference = OnnxPredictor(out), OnnxPredictor(source)
    assert predictor.info == reference.info
    assert KEY in {entry.key for entry in onnx.load(out).metadata_props}
    np.testing.assert_allclose(predictor(IMAGES[0])[0], reference(IMAGES[0])[0], atol=0.3)


def test_ranges_are_those_of_all_images(source):
    model = onnx.load(source)
    parts = [measure_ranges(model, ["first/y"], [image])["first/y"] for image in IMAGES]
    assert measure_ranges(model, ["first/y"], IMAGES) == {
        "first/y": (min(p[0] for p in parts), max(p[1] for p in parts))
    }


def test_no_images(source, tmp_path):
    with pytest.raises(CalibrationError, match="there are 0 images to measure ranges on"):
        build_onnxruntime(source, tmp_path / "out.onnx", [])
    assert not (tmp_path / "out.onnx").exists()


def test_values_that_are_not_finite(source):
    image = np.full((1, 3, SIDE, SIDE), np.nan, dtype=np.float32)
    model = onnx.load(source)
    # a quantizer turns NaN into some code, so look before the first
    model.graph.node.append(onnx.helper.make_node("Neg", ["images"], ["negative"]))
    with pytest.raises(CalibrationError, match="tensor 'negative' holds values from nan to nan"):
        measure_ranges(model, ["negative"], [image])


def test_a_float_file_is_refused(float_path, tmp_path):
    with pytest.raises(ModelError, match=r"model\.onnx' quantizes 0 layers"):
        build_onnxruntime(float_path, tmp_path / "out.onnx", IMAGES)


def test_place_that_cannot_be_written(source, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write '.*file/out\.onnx'"):
        build_onnxruntime(source, tmp_path / "file" / "out.onnx", IMAGES)


def test_graph_that_does_not_load(source, tmp_path, monkeypatch):
    session, calls = onnxruntime.InferenceSession, []

    def refuse_the_second(*args, **settings):
        calls.append(args)
        if len(calls) == 2:
            raise RuntimeError("no such kernel")
        return session(*args, **settings)

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse_the_second)
    with pytest.raises(ModelError, match=r"cannot load 'the integer graph of .*model\.onnx' \(no such kernel\)"):
        build_onnxruntime(source, tmp_path / "out.onnx", IMAGES)
