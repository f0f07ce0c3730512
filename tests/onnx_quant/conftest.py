from __future__ import annotations

from pathlib import Path

import pytest

from yoloqat.cli import main


@pytest.fixture(scope="session")
def tiny_float(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """The tiny detector as a float ONNX file for one image."""
    out = tmp_path_factory.mktemp("float")
    assert main(["export", str(tiny_model), "--threads", "1", "--quiet", "--out", str(out)]) == 0
    return out / "model.onnx"


@pytest.fixture(scope="session")
def calibrated(tmp_path_factory: pytest.TempPathFactory, tiny_float: Path, tiny_data) -> Path:
    """The directory that calibrating that file writes, with the images of the tiny checkpoint."""
    out = tmp_path_factory.mktemp("onnx") / "calibrated"
    data = ["--data", str(tiny_data.yaml), "--calib-images-dir", str(tiny_data.train), "--calib-images", "4"]
    assert main(["calibrate", str(tiny_float), *data, "--threads", "1", "--quiet", "--out", str(out)]) == 0
    return out
