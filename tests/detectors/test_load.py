"""Which files are taken for models."""

from __future__ import annotations

import pytest

from yoloqat.detectors import load_detector
from yoloqat.errors import ModelError


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelError, match=f"model '{tmp_path / 'absent.pt'}' does not exist"):
        load_detector(tmp_path / "absent.pt")
    assert not list(tmp_path.iterdir()), "nothing was downloaded"


def test_a_directory_is_no_model(tmp_path):
    (tmp_path / "model.pt").mkdir()
    with pytest.raises(ModelError, match=r"model '.*model.pt' is a directory"):
        load_detector(tmp_path / "model.pt")


@pytest.mark.parametrize("name", ["model.onnx", "model.pth", "model"])
def test_another_kind_of_file_is_named(tmp_path, name):
    (tmp_path / name).write_text("x")
    suffix = (tmp_path / name).suffix
    with pytest.raises(ModelError, match=f"model '.*{name}' ends in '{suffix}'; expected a .pt or .safetensors file"):
        load_detector(tmp_path / name)
