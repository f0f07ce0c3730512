from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from tiny_qdq import SIDE, build


@pytest.fixture(scope="session")
def tiny() -> Callable[..., onnx.ModelProto]:
    return build


@pytest.fixture(scope="session")
def qdq_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("qdq") / "model.onnx"
    onnx.save(build(), path)
    return path


@pytest.fixture(scope="session")
def float_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("float") / "model.onnx"
    onnx.save(build(quantized=False), path)
    return path


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    return np.random.default_rng(3).uniform(0, 1, (1, 3, SIDE, SIDE)).astype(np.float32)
