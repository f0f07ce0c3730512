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
    line = [str(tiny_model), *common, "--threads", "1", "--granularity", "block", "--base-bits", "5", "--top", "1"]
    assert recipe([*line, "--out", str(tmp_path)]) == 0
    scan, calibrated = (
        json.loads((tmp_path / step / "result.json").read_text())["results"] for step in ("scan", "calibrate")
    )
    worst = scan["items"][0]["layers"]
    assert worst
    assert not set(worst) & set(calibrated["layers"])
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
