from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from few_images import demo_of_few_images

from yoloqat.cli import main
from yoloqat.errors import ModelError
from yoloqat.pipeline import demo as module
from yoloqat.pipeline import quantize_way

VALIDATION_IMAGES = 60


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
    few = demo_of_few_images(data, tmp_path / "few", images=VALIDATION_IMAGES)
    monkeypatch.setattr(module, "demo_assets", lambda: (weights, few))
    monkeypatch.setattr(quantize_way, "BENCH_ROUNDS", 3)
    monkeypatch.setattr(module, "CALIBRATION_IMAGES", 32)
    monkeypatch.setattr(module, "COMPARED", 4)
    monkeypatch.setattr(module, "METHODS", ("mse",))
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out), "--threads", "1"]) == 0
    shown = capsys.readouterr().out
    assert f"all of it, with pictures: {out / 'report.html'}" in shown
    results = json.loads((out / "result.json").read_text())["results"]
    assert 0.55 <= results["map_float"] <= 0.9
    assert [row["method"] for row in results["compare"]["methods"]] == ["mse"]
    assert results["build"]["int8_mac_share"] >= 0.9
    (careless,) = results["careless"]
    assert careless["drop_ci95"][0] > 0.0, "a careless method loses beyond its interval"
    assert careless["d"] > 2.0 * results["d"], "and makes twice the noise"
    assert results["drop"] < careless["drop"]
    assert results["verdict"]["verdict"] in ("met", "not told apart")
    assert results["budget"]["items"][0]["share"] > 0.1
    for name in (
        "demo.pt",
        "careless/model.safetensors",
        "model.safetensors",
        "model.onnx",
        "model_openvino/model.xml",
    ):
        assert Path(out / name).is_file()
    assert "What a careless method loses" in (out / "report.html").read_text()
