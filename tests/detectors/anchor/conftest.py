"""Small models of the anchor-based families, and the checkpoints and outputs of the original code."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from small_anchor import DESCRIPTIONS, make_model, save_original

from yoloqat.detectors import torch_threads


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small tensors gain nothing from threads."""
    with torch_threads(1):
        yield


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """The directory of what the original YOLOv7 code wrote; the test is skipped where it is absent."""
    default = Path(__file__).resolve().parents[4] / "shared" / "golden"
    path = Path(os.environ.get("YOLOQAT_GOLDEN", default)) / "yolov7"
    if not path.is_dir():
        pytest.skip(f"no checkpoints of the original YOLOv7 at {path}; set YOLOQAT_GOLDEN to their directory")
    return path


@pytest.fixture(scope="session", params=sorted(DESCRIPTIONS))
def family(request: pytest.FixtureRequest) -> str:
    """Each of the two families."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def small_original(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small model as the family's original code writes it."""
    with torch_threads(1):
        yaml = DESCRIPTIONS[family]
        return save_original(tmp_path_factory.mktemp(family) / f"{family}.pt", make_model(yaml), yaml)


@pytest.fixture
def picture() -> torch.Tensor:
    """Two images of 64 pixels."""
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
