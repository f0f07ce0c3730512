"""Pixels for models of other than three channels, against what Ultralytics reads of the same files."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from yoloqat.datasets.images import decode
from yoloqat.detectors.ultralytics_import import ultralytics_module

FLAGS = {1: cv2.IMREAD_GRAYSCALE, 4: cv2.IMREAD_UNCHANGED, 6: cv2.IMREAD_UNCHANGED}


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    for bits in (8, 16):
        kind = np.dtype(f"uint{bits}")
        for channels in (1, 3, 4):
            pixels = rng.integers(0, 1 << bits, (7, 9, channels), dtype=kind)
            for suffix in (".png", ".tiff"):
                cv2.imwrite(str(tmp_path / f"{bits}-{channels}{suffix}"), pixels)
        pages = [rng.integers(0, 1 << bits, (7, 9), dtype=kind) for _ in range(6)]
        cv2.imwritemulti(str(tmp_path / f"{bits}-6.tiff"), pages)
    cv2.imwrite(str(tmp_path / "8-3.jpg"), rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    return sorted(tmp_path.iterdir())


@pytest.mark.parametrize("channels", FLAGS)
def test_equal_pixels(files, channels):
    read, compared = ultralytics_module("utils.patches").imread, 0
    for file in files:
        theirs = read(str(file), flags=FLAGS[channels])
        if theirs is not None and theirs.shape[2] == channels:
            np.testing.assert_array_equal(decode(file, channels), theirs, err_msg=file.name)
            compared += 1
    assert compared == {1: len(files), 4: 4, 6: 2}[channels]
