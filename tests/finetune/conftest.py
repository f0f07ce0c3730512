from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tiny_detector import NAMES, TinyData

from yoloqat.detectors import Detector, load_detector, torch_threads


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with torch_threads(1):
        yield


@pytest.fixture(scope="session")
def labelled(tmp_path_factory: pytest.TempPathFactory, tiny_data: TinyData) -> Path:
    """A data set whose training split has labels: the validation images."""
    path = tmp_path_factory.mktemp("labelled") / "data.yaml"
    images = str(tiny_data.images)
    path.write_text(yaml.safe_dump({"train": images, "val": images, "names": NAMES}))
    return path


@pytest.fixture
def detector(tiny_checkpoint: Path) -> Detector:
    """The tiny detector, calibrated to 8 bits."""
    return load_detector(tiny_checkpoint)
