from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from graphs import Graph

from yoloqat.cli import main
from yoloqat.config import EvalConfig, MethodSpec, QuantConfig
from yoloqat.datasets import load_dataset
from yoloqat.detectors import load_detector
from yoloqat.errors import DataError, ModelError
from yoloqat.onnx_graph.file import properties, set_properties
from yoloqat.onnx_quant.float_graph import float_graph
from yoloqat.onnx_quant.noise import OnnxNoiseScan
from yoloqat.onnx_quant.placement import place
from yoloqat.onnx_quant.quantize import fake_quantized, find_qparams, weight_location
from yoloqat.pipeline.onnx_files import read_quantized
from yoloqat.quant.calib import HistogramCalibrator
from yoloqat.sensitivity.noise import ACTIVATIONS, PREFIX, WEIGHTS, WHOLE, NoiseScan
from yoloqat.sensitivity.settings import ScanConfig

CONFIG = EvalConfig(imgsz=64, batch=4)


@pytest.fixture(scope="module")
def scan(calibrated: Path, tiny_data) -> OnnxNoiseScan:
    file = read_quantized(calibrated / "model.onnx")
    images = load_dataset(tiny_data.yaml).images[:4]
    return OnnxNoiseScan(
        file.floating.model,
        file.floating.info,
        file.placement,
        file.qparams,
        quant=file.quant,
        images=images,
        config=CONFIG,
        scan=ScanConfig(),
        threads=1,
    )


def test_each_quantizer_alone_makes_the_noise_that_it_makes_in_torch(
    scan: OnnxNoiseScan, tiny_checkpoint: Path
) -> None:
    twin = NoiseScan(
        load_detector(tiny_checkpoint),
        scan.images,
        config=CONFIG,
        scan=ScanConfig(),
        device=torch.device("cpu"),
        memory=1 << 30,
    )
    assert len(scan.items) == len(twin.items) == 23
    assert len(scan.quantizers) == len(twin.quantizers)
    assert scan.weights == twin.weights
    chosen = [WHOLE, WEIGHTS, ACTIVATIONS, "model.4.conv", f"{PREFIX}model.3.conv._weight_quantizer"]
    own = scan.run(0, {name: scan._single[name] for name in chosen})
    other = twin.run(0, {name: twin._single[name] for name in chosen})
    for name in chosen:
        np.testing.assert_allclose(own[name], other[name], rtol=0.15, atol=1e-4, err_msg=name)
    assert scan.mac_share(["model.0.conv", "model.3.conv"]) == pytest.approx(
        twin.mac_share(["model.0.conv", "model.3.conv"])
    )


def test_the_budget_ends_in_layers_that_calibrate_leaves_float(
    calibrated: Path, tiny_float: Path, tiny_data, tmp_path: Path
) -> None:
    out = tmp_path / "noise"
    line = ["--images", str(tiny_data.images), "--threads", "1", "--quiet"]
    groups = ["--group", "first=model.0.conv,model.1.conv", "--group", "neck=model.8"]
    scan = [
        "sensitivity",
        str(calibrated / "model.onnx"),
        "--mode",
        "noise",
        *groups,
        "--max-drop",
        "1e-6",
        "--top",
        "1",
    ]
    assert main([*scan, *line, "--out", str(out)]) == 0
    found: dict[str, Any] = json.loads((out / "result.json").read_text())["results"]
    assert {item["name"] for item in found["items"]} == {"first", "neck", "(others)"}
    assert sum(item["share"] for item in found["items"]) == pytest.approx(1.0)
    assert found["curve"][0]["d"] == pytest.approx(found["d"])
    assert (out / "budget.png").stat().st_size > 1000
    (out / "ignore.txt").write_text("model.0.conv\n")
    again = ["calibrate", str(calibrated / "float.onnx"), *line, "--no-eval", "--ignore", f"@{out / 'ignore.txt'}"]
    assert main([*again, "--out", str(tmp_path / "mixed")]) == 0
    mixed = json.loads((tmp_path / "mixed" / "result.json").read_text())["results"]
    assert mixed["quantized_layers"] == 21


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "mode is 'leave-one-out' with"),
        (["--mode", "noise", "--bits", "6"], "bits is 6 with"),
        (["--mode", "noise", "--map-top", "2"], "map_top is 2 with"),
        (["--mode", "noise", "--method", "max"], "quantization options came with"),
    ],
)
def test_what_needs_a_checkpoint_is_refused(
    options: list[str], told: str, calibrated: Path, tiny_data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["sensitivity", str(calibrated / "model.onnx"), "--images", str(tiny_data.images), *options, "--quiet"]
    assert main([*line, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_a_file_without_its_float_file_or_its_story_is_refused(
    calibrated: Path, tiny_onnx: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=f"'{tiny_onnx}' does not tell how an ONNX file was quantized"):
        read_quantized(tiny_onnx)
    alone = tmp_path / "model.onnx"
    model = onnx.load(calibrated / "model.onnx")
    set_properties(model, {key: value for key, value in properties(model).items() if key != "yoloqat_source"})
    onnx.save(model, alone)
    with pytest.raises(ModelError, match=f"the float file of '{alone}' is not at '{tmp_path / 'float.onnx'}'"):
        read_quantized(alone)
    shutil.copy(calibrated / "float.onnx", tmp_path)
    assert len(read_quantized(alone).placement.layers) == 22
    told = json.loads(properties(model)["yoloqat"])
    del told["quantizers"]["model.0.conv/input/QuantizeLinear"]
    set_properties(model, properties(model) | {"yoloqat": json.dumps(told)})
    onnx.save(model, alone)
    with pytest.raises(ModelError, match=r"lacks the qparams 'model.0.conv/input/QuantizeLinear'"):
        read_quantized(alone)


def test_a_file_of_fp16_tells_its_qparams_too(calibrated: Path, tiny_data, tmp_path: Path) -> None:
    line = ["--images", str(tiny_data.images), "--no-eval", "--threads", "1", "--quiet", "--target"]
    found = {}
    for target in ("tensorrt", "onnxruntime"):
        assert main(["calibrate", str(calibrated / "float.onnx"), *line, target, "--out", str(tmp_path / target)]) == 0
        found[target] = read_quantized(tmp_path / target / "model.onnx").qparams
    for kind in ("activations", "weights"):
        half, whole = (getattr(found[target], kind) for target in found)
        assert half.keys() == whole.keys()
        for name in half:
            np.testing.assert_allclose(half[name].scale, whole[name].scale, rtol=1e-3)


def test_no_image_makes_no_noise(scan: OnnxNoiseScan) -> None:
    with pytest.raises(DataError, match="there are 0 images"):
        OnnxNoiseScan(
            scan._model,
            scan.info,
            scan._placement,
            scan._qparams,
            quant=QuantConfig(),
            images=(),
            config=CONFIG,
            scan=ScanConfig(),
            threads=1,
        )


def test_a_square_matrix_is_dequantized_in_the_layout_that_its_node_reads() -> None:
    g = Graph()
    rng = np.random.default_rng(3)
    hidden = g.add("MatMul", "first", "images", g.hold("m", rng.normal(size=(4, 4)).astype(np.float32)))
    turned = g.add("ConvTranspose", "up", hidden, g.hold("t", rng.normal(size=(3, 2, 2, 2)).astype(np.float32)))
    g.conv("last", turned, (2, 2))
    model = float_graph(g.model({"last_out": (1, 2, 9, 5)}, fed=(1, 3, 8, 4)), "m.onnx")
    placement = place(model, QuantConfig())
    calibrator = HistogramCalibrator()
    calibrator.collect(torch.linspace(-1, 1, 100))
    histogram = calibrator.histogram()
    histograms = dict.fromkeys(placement.owners.values(), histogram)
    qparams = find_qparams(model, placement, histograms, QuantConfig(), MethodSpec("max"), weight_method="max")
    on = [weight_location(layer) for layer in placement.layers]
    found = {
        t.name: onnx.numpy_helper.to_array(t) for t in fake_quantized(model, placement, qparams, on).graph.initializer
    }
    before = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    for name, axis in (("first.weight", 0), ("up.weight", (0, 2, 3))):
        steps = np.abs(before[name]).max(axis=axis, keepdims=True) / 127
        assert np.abs(found[name] - before[name]).max() > 0
        assert (np.abs(found[name] - before[name]) <= steps / 2 * 1.001).all(), name
