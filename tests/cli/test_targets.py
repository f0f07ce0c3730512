"""`--target` from calibration to the engine: what it decides, and what does not go with it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from safetensors import safe_open
from tiny_detector import TinyData

from yoloqat.cli import main
from yoloqat.cli.options import calibrated_with
from yoloqat.config.target import TARGET_KEY, TARGETS
from yoloqat.detectors import load_detector
from yoloqat.engines.zero_points import shifted_zero_points
from yoloqat.metadata import plain_value
from yoloqat.onnx_graph.file import load_onnx, properties

Cli = Callable[..., Any]
ENGINES = {"openvino": "model_openvino", "onnxruntime": "model_ort.onnx"}
"""What `build` makes of a file for an engine of CPUs; TensorRT's are built in tests/engines/trt."""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_data: TinyData) -> dict[str, Path]:
    """The tiny detector calibrated and exported for each target, by its name."""
    found = {}
    images = ["--no-eval", "--calib-images-dir", str(tiny_data.train), "--calib-images", "4", "--threads", "1"]
    for name in TARGETS:
        out = tmp_path_factory.mktemp(name)
        assert main(["calibrate", str(tiny_model), "--target", name, *images, "--out", str(out / "calibrate")]) == 0
        checkpoint = str(out / "calibrate" / "model.safetensors")
        assert main(["export", checkpoint, "--threads", "1", "--out", str(out / "export")]) == 0
        found[name] = out / "export" / "model.onnx"
    return found


def test_what_a_target_decides_is_in_the_checkpoint_and_in_the_file(exported: dict[str, Path]) -> None:
    for name, path in exported.items():
        decided = TARGETS[name]
        with safe_open(path.parents[1] / "calibrate" / "model.safetensors", framework="pt") as file:
            config = json.loads(file.metadata()["yoloqat"])["quantization"]["config"]
        assert (config["target"], config["activations"]["symmetric"]) == (name, decided.symmetric)
        model = load_onnx(path)
        assert properties(model)[TARGET_KEY] == name
        halves = any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in model.graph.initializer)
        assert (halves, model.opset_import[0].version) == (decided.half, decided.opset)
        assert bool(shifted_zero_points(model)) is not decided.symmetric


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_for_the_files_target_is_built_and_scored(
    name: str, cli: Cli, exported: dict[str, Path], tiny_data: TinyData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yoloqat.engines.openvino.cpu_saturates", lambda: True)
    ran = cli("build", exported[name], "--data", tiny_data.yaml, "--calib-images", 4, "--quiet")
    assert (ran.code, ran.err) == (0, "")
    found = ran.result["results"]
    assert (ran.result["config"]["engine"], found["engine"], found["advice"]) == (name, name, None)
    assert found["int8_convolutions"] == found["quantized_convolutions"] == 22
    engine = ran.directory / ENGINES[name]
    scored = cli("eval", engine, "--data", tiny_data.yaml, out=ran.directory / "eval")
    assert scored.result["results"]["map50_95"] == pytest.approx(found["map_engine"])
    assert found["map_engine"] > 0.1


def test_a_file_for_tensorrt_is_built_for_tensorrt_or_on_demand_for_another_with_a_warning(
    cli: Cli, exported: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    path = exported["tensorrt"]
    ran = cli("build", path)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "TensorRT cannot be imported" in ran.err
    ran = cli("build", path, "--engine", "openvino", "--quiet")
    assert ran.code == 0
    told = f"'{path}' is for the target 'tensorrt' and is built for 'openvino'"
    assert told in ran.err
    assert [told in line for line in ran.result["results"]["warnings"]] == [True]
    assert ran.result["results"]["int8_convolutions"] == 22


def test_a_file_with_zero_points_is_not_built_for_tensorrt(cli: Cli, exported: dict[str, Path]) -> None:
    path = exported["openvino"]
    ran = cli("build", path, "--engine", "tensorrt")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert f"'{path}' is for the target 'openvino', whose activations have zero-points" in ran.err
    assert "calibrate with --target tensorrt and export that, or build with --engine openvino" in ran.err


@pytest.mark.parametrize("saturates", [False, True])
def test_an_engine_for_vnni_alone_has_no_guard(
    cli: Cli, exported: dict[str, Path], tiny_data: TinyData, monkeypatch: pytest.MonkeyPatch, saturates: bool
) -> None:
    for module in ("yoloqat.pipeline.engine", "yoloqat.engines.openvino"):
        monkeypatch.setattr(f"{module}.cpu_saturates", lambda: saturates)
    ran = cli("build", exported["tensorrt"], "--vnni")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "vnni is True and the engine is 'tensorrt'; expected openvino or onnxruntime" in ran.err
    assert "leave --vnni out" in ran.err
    told = "vnni is True and this processor's 8-bit sums saturate"
    images = ("--calib-images-dir", tiny_data.train, "--calib-images", 2)
    for options, openvino, highest in (((), True, 127), (("--vnni",), False, 255)):
        ran = cli("build", exported["openvino"], *options)
        assert ran.code == 0, ran.err
        assert bool(ran.result["results"]["split_layers"]) is openvino
        assert (told in ran.err) is (saturates and bool(options))
        faster = "split in two against saturating sums, which this processor does not have"
        assert (faster in (ran.result["results"]["advice"] or "")) is (openvino and not saturates)
        assert ("build with --vnni, which is faster" in ran.out) is (openvino and not saturates)
        ran = cli("build", exported["onnxruntime"], *images, *options)
        made = properties(load_onnx(ran.directory / "model_ort.onnx"))["yoloqat_twin"]
        assert plain_value(made)["highest"] == highest


def test_a_file_without_a_target_goes_to_openvino_and_is_told_what_affine_would_give(cli: Cli, tiny_onnx: Path) -> None:
    assert TARGET_KEY not in properties(load_onnx(tiny_onnx))
    ran = cli("build", tiny_onnx)
    found = ran.result["results"]
    assert (ran.code, found["engine"]) == (0, "openvino")
    assert "calibrate with target=openvino" in found["advice"]
    told = [line for line in ran.out.splitlines() if "calibrate with --target openvino" in line]
    assert told == [found["advice"].replace("target=openvino", "--target openvino")]


def test_a_comparison_and_a_scan_for_a_target_lead_to_a_calibration_for_it(
    cli: Cli, tiny_model: Path, tiny_data: TinyData, exported: dict[str, Path]
) -> None:
    images = ("--calib-images-dir", tiny_data.train, "--calib-images", 2, "--fidelity-images", 2)
    ran = cli("compare", tiny_model, "--images", tiny_data.images, *images, "--target", "openvino", "--methods", "max")
    assert ran.code == 0, ran.err
    assert ran.result["config"]["quantization"]["target"] == "openvino"
    [line] = [line for line in ran.out.splitlines() if line.startswith("next: yoloqat calibrate")]
    assert "--target openvino" in line
    assert "--affine" not in line
    scanned = load_detector(exported["openvino"].parents[1] / "calibrate" / "model.safetensors").quantization
    was = calibrated_with(scanned)
    assert (was["target"], was["affine"]) == ("openvino", False)
    ran = cli("inspect", tiny_model, "--target", "openvino")
    assert ran.result["config"]["quantization"]["activations"]["symmetric"] is False


def test_what_contradicts_a_target_ends_in_one_line(cli: Cli, tiny_model: Path, tiny_data: TinyData) -> None:
    images = ("--calib-images-dir", tiny_data.train, "--calib-images", 2, "--no-eval")
    for options, told in (
        (("--target", "tensorrt", "--affine"), "activations are affine with target 'tensorrt'"),
        (("--target", "openvino", "--per-tensor-weights"), "weights are per tensor with target 'openvino'"),
        (("--target", "tensorrt", "--adds", "none"), "adds is none with target 'tensorrt'"),
        (("--target", "onnxruntime", "--merge", "tensor"), "merge is tensor with target 'onnxruntime'"),
    ):
        ran = cli("calibrate", tiny_model, *options, *images)
        assert (ran.code, ran.err.count("\n")) == (2, 1)
        assert f"{told}; expected" in ran.err
        assert ran.err.endswith(f"leave --target or {options[2]} out\n")
    ran = cli("calibrate", tiny_model, "--target", "tflite", *images)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "'tflite'" in ran.err


def test_an_export_is_for_the_target_of_the_calibration(
    cli: Cli, exported: dict[str, Path], tiny_checkpoint: Path
) -> None:
    checkpoint = exported["openvino"].parents[1] / "calibrate" / "model.safetensors"
    for options, told in (
        (
            ("--target", "tensorrt"),
            "is calibrated for 'openvino'; expected 'openvino'; leave --target out, or calibrate with",
        ),
        (("--half",), "half is True with target 'openvino'"),
    ):
        ran = cli("export", checkpoint, *options)
        assert (ran.code, ran.err.count("\n")) == (2, 1)
        assert told in ran.err
    ran = cli("export", tiny_checkpoint, "--target", "openvino")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "calibrated without a target, and its activations are symmetric with target 'openvino'" in ran.err
    ran = cli("export", tiny_checkpoint, "--target", "tensorrt", "--opset", 17)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "opset is 17 with half=True, as target 'tensorrt' wants it" in ran.err
    ran = cli("export", tiny_checkpoint, "--target", "tensorrt")
    assert (ran.code, ran.result["config"]["export"]["half"]) == (0, True)
    ran = cli("export", tiny_checkpoint, "--target", "tensorrt", "--no-half")
    assert (ran.code, ran.result["config"]["export"]["half"]) == (0, False)


def test_the_lint_knows_whom_a_file_is_for(cli: Cli, exported: dict[str, Path]) -> None:
    for name, path in exported.items():
        ran = cli("lint", path)
        found = {finding["rule"]: finding for finding in ran.result["results"]["findings"]}
        assert (ran.code, ran.result["results"]["errors"]) == (0, 0)
        assert ("other-target" in found) is (name == "openvino")
        if name == "openvino":
            assert "the file is for OpenVINO and has" in found["other-target"]["message"]
