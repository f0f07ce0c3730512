"""A small model of each family the whole way: swapped, calibrated, saved, exported, run by ONNX Runtime."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from yoloqat.cli import main
from yoloqat.config import QuantConfig
from yoloqat.detectors import Detector, load_detector
from yoloqat.engines import OnnxPredictor
from yoloqat.quant import quantized_layers, quantizers, swappable_layers

QUANTIZED = {"yolov5": 18, "yolov7": 18}
"""Convolutions that each small model has before its head."""


@pytest.fixture
def detector(small_original: Path) -> Detector:
    """A float detector, the test's own."""
    return load_detector(small_original)


@pytest.fixture(scope="session")
def checkpoint(small_original: Path, tiny_data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model calibrated to 8 bits."""
    out = tmp_path_factory.mktemp("calibrated")
    images = ["--calib-images-dir", str(tiny_data.train), "--calib-images", "4", "--imgsz", "64"]
    assert main(["calibrate", str(small_original), *images, "--no-eval", "--threads", "1", "--out", str(out)]) == 0
    return out / "model.safetensors"


def test_every_convolution_but_the_last_is_quantized(detector):
    names = detector.quantize(QuantConfig())
    assert len(names) == QUANTIZED[detector.family]
    assert set(swappable_layers(detector.module)) == set(detector.keep_float)
    with_head = load_detector(Path(detector.source.path))
    assert set(with_head.quantize(QuantConfig(quantize_head=True))) == {*names, *detector.keep_float}


def test_skips_have_quantizers_that_change_nothing_while_idle(detector, picture):
    expected = detector.module(picture)
    detector.quantize(QuantConfig(adds="both"))
    blocks = {"yolov5": {"model.2.m.0", "model.2.m.1"}, "yolov7": {"model.8"}}[detector.family]
    locations = {name for name, _ in quantizers(detector.module)} | set(detector.quantization.placement.aliases)
    for role in ("residual", "branch"):
        assert {f"{block}._{role}_quantizer" for block in blocks} <= locations
    for _, quantizer in quantizers(detector.module):
        quantizer.disable()
    assert torch.equal(detector.module(picture), expected)


def test_skips_can_stay_float(detector):
    detector.quantize(QuantConfig(adds="none"))
    assert not [name for name, _ in quantizers(detector.module) if "residual" in name or "branch" in name]


def test_layers_can_be_ignored_by_name(detector):
    names = detector.quantize(QuantConfig(ignore=("model.2",)))
    assert names
    assert not [name for name in names if name.startswith("model.2.")]


def test_a_checkpoint_gives_the_same_detector(checkpoint, family, picture):
    detector = load_detector(checkpoint)
    assert (detector.family, len(list(quantized_layers(detector.module)))) == (family, QUANTIZED[family])
    again = load_detector(checkpoint)
    with torch.inference_mode():
        assert torch.equal(detector.module(picture), again.module(picture))
    original = load_detector(Path(detector.source.path))
    assert not torch.equal(original.module(picture), again.module(picture))
    assert (original.info, original.keep_float) == (again.info, again.keep_float)


def test_the_float_export_computes_the_same(small_original, tmp_path, picture):
    out = tmp_path / "out"
    assert (
        main(["export", str(small_original), "--imgsz", "64", "--batch", "2", "--threads", "1", "--out", str(out)]) == 0
    )
    found = OnnxPredictor(out / "model.onnx", threads=1)(picture.numpy())
    with torch.inference_mode():
        expected = load_detector(small_original).module(picture)
    torch.testing.assert_close(torch.from_numpy(found[0]), expected, rtol=1e-4, atol=1e-4)


def test_the_quantized_export_computes_the_same_node_by_node(checkpoint, family, tiny_data, tmp_path):
    data = ["--images", str(tiny_data.images), "--annotations", str(tiny_data.annotations)]
    arguments = ["--imgsz", "64", "--batch", "2", "--threads", "1", *data, "--out", str(tmp_path)]
    assert main(["export", str(checkpoint), *arguments]) == 0
    results = json.loads((tmp_path / "result.json").read_text())["results"]
    assert results["quantized_convolutions"] == QUANTIZED[family]
    assert results["convolutions"] == QUANTIZED[family] + 2
    assert results["node_max_steps"] <= 1
    assert results["node_flip_share"] <= 0.001
