from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
import yaml

from yoloqat.cli import main
from yoloqat.config import MethodSpec
from yoloqat.errors import ModelError
from yoloqat.pipeline import demo as module

VALIDATION_IMAGES = 80


def test_the_embedded_files_are_found():
    weights, data = module.demo_assets()
    assert zipfile.is_zipfile(weights)
    assert data.name == "demo.yaml"


def test_an_installation_without_them_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(module.resources, "files", lambda package: tmp_path / package)
    with pytest.raises(ModelError, match=str(tmp_path / "yoloqat" / "resources")):
        module.demo_assets()


@pytest.mark.slow
def test_the_whole_way(tmp_path, monkeypatch, capsys):
    # the demo's own weights on its own images, fewer of them, and fewer methods and rounds of timing
    weights, data = module.demo_assets()
    images = sorted((data.parent / "images" / "val").iterdir())[:VALIDATION_IMAGES]
    (tmp_path / "val.txt").write_text("\n".join(map(str, images)))
    content = {"train": str(data.parent / "images" / "train"), "val": "val.txt"}
    (tmp_path / "few.yaml").write_text(yaml.safe_dump(yaml.safe_load(data.read_text()) | {"path": "."} | content))
    monkeypatch.setattr(module, "demo_assets", lambda: (weights, tmp_path / "few.yaml"))
    monkeypatch.setattr(module, "BENCH_ROUNDS", 3)
    monkeypatch.setattr(module, "CALIBRATION_IMAGES", 32)
    monkeypatch.setattr(module, "HARD_METHODS", (MethodSpec("max"),))
    monkeypatch.setattr(module, "DEFAULT_METHODS", (MethodSpec("max"), MethodSpec("mse")))
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out), "--threads", "1"]) == 0
    shown = capsys.readouterr().out
    assert "yoloqat compare YOUR.pt" in shown
    results = json.loads((out / "result.json").read_text())["results"]
    assert 0.55 <= results["map_float"] <= 0.9
    assert len(results["compare"]["methods"]) == len(module.DEFAULT_METHODS)
    assert results["build"]["int8_mac_share"] >= 0.9
    assert results["drop"] <= 0.02, "the best method at 8 bits loses next to nothing"
    careless = {row["method"]: row for row in results["careless"]}
    assert careless["max"]["drop_ci95"][0] > 0.0, "a careless method at 6 bits loses beyond its interval"
    for name in ("demo.pt", "model.safetensors", "model.onnx", "model_openvino/model.xml", "float.onnx"):
        assert Path(out / name).is_file()
