from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from yoloqat.detectors import Detector, load_detector, torch_threads


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with torch_threads(1):
        yield


@pytest.fixture
def detector(tiny_checkpoint: Path) -> Detector:
    """The tiny detector, calibrated to 8 bits."""
    return load_detector(tiny_checkpoint)
