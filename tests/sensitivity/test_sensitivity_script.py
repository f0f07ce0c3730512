"""The recipe scripts/sensitivity.py."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def recipe(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("sensitivity").run


def test_what_costs_most_is_left_float(recipe, tiny_model, tiny_data, tmp_path):
    common = ["--data", str(tiny_data.yaml), "--calib-images-dir", str(tiny_data.train), "--calib-images", "2"]
    line = [str(tiny_model), *common, "--threads", "1", "--granularity", "block", "--base-bits", "5", "--mode", "noise"]

    def results(step: str) -> dict:
        return json.loads((tmp_path / step / "result.json").read_text())["results"]

    assert recipe([*line, "--out", str(tmp_path)]) == 0
    every = set(results("calibrate")["layers"]) | set(results("scan")["ignore"])
    limit = results("scan")["curve"][-2]["expected_relative_drop"]  # of the last point with a layer in INT8
    assert recipe([*line, "--max-drop", str(limit), "--overwrite", "--out", str(tmp_path)]) == 0
    floating = set(results("scan")["ignore"])
    assert floating
    assert set(results("calibrate")["layers"]) == every - floating
    assert (
        json.loads((tmp_path / "calibrate" / "result.json").read_text())["config"]["quantization"]["weights"]["bits"]
        == 5
    )


def test_it_stops_at_the_first_step_that_fails(recipe, tmp_path, capsys):
    assert (
        recipe([str(tmp_path / "none.pt"), "--data", str(tmp_path / "none.yaml"), "--out", str(tmp_path / "out")]) == 2
    )
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out" / "calibrate").exists()
