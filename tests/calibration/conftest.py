from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_detector import TinyData

from yoloqat.config import QuantConfig
from yoloqat.datasets import ImageRecord, calibration_images
from yoloqat.detectors import Detector, load_detector, torch_threads


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with torch_threads(1):
        yield


@pytest.fixture
def records(tiny_data: TinyData) -> tuple[ImageRecord, ...]:
    return calibration_images(tiny_data.train, 4)


@pytest.fixture
def swapped(tiny_model: Path) -> Detector:
    """The tiny detector with its layers swapped, weights calibrated and inputs not."""
    detector = load_detector(tiny_model)
    detector.quantize(QuantConfig())
    return detector
