from __future__ import annotations

import pytest

from yoloqat.engines import OnnxPredictor, OpenVINOPredictor, build_openvino, open_engine
from yoloqat.errors import ModelError


def test_each_kind_of_path(qdq_path, tmp_path):
    build_openvino(qdq_path, tmp_path / "ir")
    assert isinstance(open_engine(qdq_path), OnnxPredictor)
    assert isinstance(open_engine(tmp_path / "ir"), OpenVINOPredictor)


def test_other_paths_are_refused(tmp_path):
    with pytest.raises(ModelError, match=f"'{tmp_path}' is no OpenVINO directory"):
        open_engine(tmp_path)
    with pytest.raises(ModelError, match=r"'.*model\.bin' is no engine file"):
        open_engine(tmp_path / "model.bin")
