"""Small Ultralytics models with seeded weights, saved as Ultralytics saves what it trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from tiny_detector import save_module
from torch import nn

from yoloqat.detectors import Detector, load_detector, torch_threads
from yoloqat.detectors.ultralytics_import import ultralytics_module

KINDS = {"seg": "SegmentationModel", "pose": "PoseModel", "cls": "ClassificationModel"}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small tensors gain nothing from threads, which wait long for each other on a busy machine."""
    with torch_threads(1):
        yield


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function from an architecture's name, e.g. yolov8n-seg, to a checkpoint of it."""
    folder, made = tmp_path_factory.mktemp("weights"), {}

    def make(name: str) -> Path:
        if name not in made:
            kind = getattr(ultralytics_module("nn.tasks"), KINDS.get(name.partition("-")[2], "DetectionModel"))
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                made[name] = save_module(kind(f"{name}.yaml", verbose=False), folder / f"{name}.pt")
        return made[name]

    return make


@pytest.fixture(scope="session")
def yolov8n(weights) -> Detector:
    """A float YOLOv8n; take a copy before changing it."""
    return load_detector(weights("yolov8n"))


@pytest.fixture
def tiny(tiny_model: Path) -> Detector:
    """A small float detector, the test's own."""
    return load_detector(tiny_model)


@pytest.fixture(scope="session")
def tiny_module(tiny_model: Path) -> nn.Module:
    """The module of the small detector as torch alone reads it; take a copy before changing it."""
    ultralytics_module("nn.tasks")  # imported with care before unpickling imports it
    module: nn.Module = torch.load(tiny_model, weights_only=False)["model"]
    return module.float()


@pytest.fixture
def picture() -> torch.Tensor:
    """Two images of 64 pixels."""
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
