"""The calibrated tiny detector, its data, and what scans it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_detector import IMGSZ, TinyData

from yoloqat.config import EvalConfig
from yoloqat.datasets import DetectionDataset, load_dataset
from yoloqat.detectors import Detector, load_detector, torch_threads
from yoloqat.sensitivity.scanner import Scanner
from yoloqat.sensitivity.settings import ScanConfig

CONFIG = EvalConfig(imgsz=IMGSZ, batch=4)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with torch_threads(1):
        yield


@pytest.fixture(scope="session")
def dataset(tiny_data: TinyData) -> DetectionDataset:
    return load_dataset(tiny_data.yaml)


@pytest.fixture(scope="session")
def detector(tiny_checkpoint: Path) -> Detector:
    """Shared by all tests: nothing here may change it, and whoever does restores it."""
    return load_detector(tiny_checkpoint)


@pytest.fixture
def make_scanner(detector: Detector, dataset: DetectionDataset) -> Callable[..., Scanner]:
    def make(*, memory: int = 1 << 30, config: EvalConfig = CONFIG, **scan: Any) -> Scanner:
        return Scanner(
            detector,
            dataset,
            config=config,
            scan=ScanConfig(**scan),
            device=torch.device("cpu"),
            memory=memory,
        )

    return make
