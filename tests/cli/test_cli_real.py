"""The whole way on a real detector and real images, small enough for every day."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from yoloqat.cli import main
from yoloqat.detectors.ultralytics_import import ultralytics_module
from yoloqat.engines import OnnxPredictor

IMAGES, IMGSZ = 8, 160
pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def way(real_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run every command once in one directory, each on what the one before wrote, and return the results."""
    base = tmp_path_factory.mktemp("way")
    coco = real_dir / "coco"
    content = json.loads((coco / "annotations" / "instances_val2017_exact.json").read_text())
    images = sorted(content["images"], key=lambda entry: entry["id"])[:IMAGES]
    known = {entry["id"] for entry in images}
    annotations = [entry for entry in content["annotations"] if entry["image_id"] in known]
    pair = base / "pair.json"
    pair.write_text(json.dumps({**content, "images": images, "annotations": annotations}))
    files = {Path(line).name: (coco / line) for line in (coco / "val2017_exact.txt").read_text().split()}
    folder = files[Path(images[0]["file_name"]).name].parent
    data = ["--images", str(folder), "--annotations", str(pair), "--imgsz", str(IMGSZ)]
    calibration = ["--calib-images-dir", str(coco / "images" / "train2017"), "--calib-images", "8"]
    model = str(real_dir / "weights" / "yolov8n.pt")
    results: dict[str, Any] = {"base": base, "model": model}

    def run(command: str, *arguments: str) -> None:
        out = base / command
        assert main([command, *arguments, "--threads", "1", "--out", str(out)]) == 0
        results[command] = json.loads((out / "result.json").read_text())["results"]

    run("eval", model, *data)
    run("compare", model, *data, *calibration, "--methods", "max,percentile-99.9")
    run("calibrate", model, *data, *calibration, "--method", "max")
    run("export", str(base / "calibrate" / "model.safetensors"), *data)
    run("build", str(base / "export" / "model.onnx"), *data, "--float", model)
    paths = ["calibrate/model.safetensors", "export/model.onnx", "build/model_openvino"]
    run("bench", model, *(str(base / path) for path in paths), "--imgsz", str(IMGSZ), "--rounds", "3")
    return results


def test_every_command_scores_the_same_float_model(way: dict[str, Any]) -> None:
    floating = way["eval"]["map50_95"]
    assert floating > 0.2
    assert way["eval"]["images"] == IMAGES
    assert way["compare"]["baseline"]["map50_95"] == pytest.approx(floating, abs=1e-4)
    assert way["calibrate"]["map_float"] == pytest.approx(floating, abs=1e-4)
    assert way["build"]["map_float"] == pytest.approx(floating, abs=0.01)  # in batches of one, as the engine takes them


def test_57_layers_are_quantized_and_reach_the_file(way: dict[str, Any]) -> None:
    assert way["calibrate"]["quantized_layers"] == way["compare"]["quantized_layers"] == 57
    assert (way["export"]["quantized_convolutions"], way["export"]["convolutions"]) == (57, 64)
    assert (way["build"]["quantized_convolutions"], way["build"]["convolutions"]) == (57, 64)


def test_the_file_computes_what_torch_does(way: dict[str, Any]) -> None:
    assert way["export"]["node_max_steps"] <= 1
    assert way["export"]["node_flip_share"] <= 0.001


def test_the_engine_runs_in_integers(way: dict[str, Any]) -> None:
    assert way["build"]["int8_mac_share"] >= 0.9
    assert way["build"]["int8_convolutions"] >= 0.9 * 57
    assert way["build"]["map_engine"] == pytest.approx(way["export"]["map_onnx"], abs=0.03)


def test_all_artefacts_are_timed(way: dict[str, Any]) -> None:
    engines = [item["engine"] for item in way["bench"]["items"]]
    assert engines == ["torch", "torch", "onnxruntime", "openvino"]


def test_ultralytics_loads_the_file(way: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    path = way["base"] / "export" / "model.onnx"
    checks = ultralytics_module("utils.checks")
    installs: list[object] = []
    asked: Callable[..., bool] = lambda *packages, **options: bool(installs.append(packages)) or True  # noqa: E731
    backend = ultralytics_module("nn.autobackend")
    monkeypatch.setattr(checks, "check_requirements", asked)
    loaded = backend.AutoBackend(str(path), device=torch.device("cpu"), verbose=False)
    assert (loaded.stride, loaded.task, len(loaded.names)) == (32, "detect", 80)
    assert loaded.names[0] == "person"
    assert list(loaded.imgsz) == [IMGSZ, IMGSZ]
    image = np.random.default_rng(0).random((1, 3, IMGSZ, IMGSZ), dtype=np.float32)
    theirs = loaded(torch.from_numpy(image))
    theirs = theirs[0] if isinstance(theirs, list | tuple) else theirs
    assert theirs.shape == OnnxPredictor(path)(image)[0].shape
