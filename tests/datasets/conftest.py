"""Small data sets on the disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest


def write_image(path: Path, width: int = 8, height: int = 6) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(width * 1000 + height).integers(0, 256, size=(height, width, 3), dtype=np.uint8)
    assert cv2.imwrite(str(path), pixels)
    return path


@pytest.fixture
def image_at() -> Callable[..., Path]:
    return write_image


@pytest.fixture
def yolo_yaml(tmp_path: Path) -> Path:
    """Three validation and four training images with YOLO labels of two classes."""
    for number in range(3):
        write_image(tmp_path / "images" / "val" / f"{number}.png", width=10 + number, height=20)
    for number in range(4):
        write_image(tmp_path / "images" / "train" / f"{number}.JPG")
    (tmp_path / "labels" / "val").mkdir(parents=True)
    (tmp_path / "labels" / "val" / "0.txt").write_text("0 0.5 0.5 0.2 0.4\n1 0.25 0.25 0.5 0.5\n")
    (tmp_path / "labels" / "val" / "2.txt").write_text("1 0.1 0.1 0.5 0.1 0.5 0.6\n")
    path = tmp_path / "data.yaml"
    path.write_text("train: images/train\nval: images/val\nnames: [cat, dog]\n")
    return path
