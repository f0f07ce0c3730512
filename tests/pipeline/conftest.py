from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_detector import IMGSZ, TinyData

from yoloqat.config import CalibrationConfig, QuantConfig
from yoloqat.datasets import DetectionDataset, calibration_images, load_dataset
from yoloqat.detectors import load_detector, torch_threads
from yoloqat.pipeline.ptq import Ptq
from yoloqat.pipeline.run import Run
from yoloqat.progress import Progress, silent


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with torch_threads(1):
        yield


@pytest.fixture
def dataset(tiny_data: TinyData) -> DetectionDataset:
    return load_dataset(tiny_data.yaml)


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Run]:
    def make(out: str = "out", progress: Progress = silent) -> Run:
        return Run(tmp_path / out, torch.device("cpu"), 1, progress)

    return make


@pytest.fixture
def make_ptq(tiny_model: Path, tiny_data: TinyData) -> Callable[..., Ptq]:
    def make(run: Run, *, model: Path = tiny_model, images: int = 4, **quant: Any) -> Ptq:
        return Ptq(
            load_detector(model),
            calibration_images(tiny_data.train, images),
            quant=QuantConfig(**quant),
            calibration=CalibrationConfig(images=images),
            imgsz=IMGSZ,
            batch=2,
            run=run,
        )

    return make
