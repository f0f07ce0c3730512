"""The recipes in scripts/ do what their first lines say."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module(name)


@pytest.mark.slow
def test_build_engine_goes_from_weights_to_times(tiny_model, tiny_data, tmp_path, monkeypatch):
    arguments = [
        str(tiny_model),
        "--data",
        str(tiny_data.yaml),
        "--imgsz",
        "64",
        "--calib-images",
        "4",
        "--threads",
        "1",
    ]
    assert script("build_engine", monkeypatch).run([*arguments, "--out", str(tmp_path)]) == 0
    results = {
        step: json.loads((tmp_path / step / "result.json").read_text())["results"]
        for step in ("export", "build", "bench")
    }
    assert results["export"]["quantized_convolutions"] == results["build"]["int8_convolutions"] > 0
    assert results["build"]["drop"] is not None
    assert [item["engine"] for item in results["bench"]["items"]] == ["torch", "onnxruntime", "openvino", "openvino"]


def test_build_engine_stops_at_the_first_step_that_fails(tmp_path, monkeypatch, capsys):
    arguments = [str(tmp_path / "none.pt"), "--data", str(tmp_path / "none.yaml"), "--out", str(tmp_path / "out")]
    assert script("build_engine", monkeypatch).run(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
def test_compare_calibration_calibrates_by_the_winner(tiny_model, tiny_data, tmp_path, monkeypatch):
    arguments = ["--data", str(tiny_data.yaml), "--imgsz", "64", "--calib-images", "4", "--threads", "1"]
    run = script("compare_calibration", monkeypatch).run
    assert run([str(tiny_model), *arguments, "--methods", "max,mse", "--out", str(tmp_path)]) == 0
    best = json.loads((tmp_path / "compare" / "result.json").read_text())["results"]["recommended"]
    calibrated = json.loads((tmp_path / "calibrate" / "result.json").read_text())["results"]
    assert calibrated["method"] == best
    assert calibrated["map_qfloat"] is not None
    assert (tmp_path / "calibrate" / "model.safetensors").is_file()
