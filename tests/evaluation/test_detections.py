from __future__ import annotations

import re

import numpy as np
import pytest

from yoloqat.errors import DataError
from yoloqat.evaluation import Detections


@pytest.fixture
def detections():
    rows = [
        np.array([[1, 2, 4, 6, 0.5, 1], [0, 0, 1, 1, 0.25, 0]], np.float32),
        np.zeros((0, 6), np.float32),
        np.array([[5, 5, 8, 9, 0.75, 1]], np.float32),
    ]
    return Detections.of_images([7, 8, 9], rows)


def test_images_without_detections_are_kept(detections):
    assert detections.images.tolist() == [7, 8, 9]
    assert detections.image_ids.tolist() == [7, 7, 9]
    assert len(detections) == 3


def test_coco_results_hold_corner_and_sides(detections):
    assert detections.to_coco({0: 10, 1: 20}) == [
        {"image_id": 7, "category_id": 20, "bbox": [1.0, 2.0, 3.0, 4.0], "score": 0.5},
        {"image_id": 7, "category_id": 10, "bbox": [0.0, 0.0, 1.0, 1.0], "score": 0.25},
        {"image_id": 9, "category_id": 20, "bbox": [5.0, 5.0, 3.0, 4.0], "score": 0.75},
    ]


def test_saving_and_loading_change_nothing(detections, tmp_path):
    detections.save(tmp_path / "d.npz")
    loaded = Detections.load(tmp_path / "d.npz")
    for name in ("images", "counts", "boxes", "scores", "classes"):
        expected = getattr(detections, name)
        np.testing.assert_array_equal(getattr(loaded, name), expected)
        assert getattr(loaded, name).dtype == expected.dtype


def test_joining_keeps_the_order(detections):
    other = Detections.of_images([1], [np.array([[0, 0, 2, 2, 0.125, 0]], np.float32)])
    joined = Detections.joined([detections, other])
    assert joined.image_ids.tolist() == [7, 7, 9, 1]
    assert joined.scores.tolist() == [0.5, 0.25, 0.75, 0.125]
    assert len(Detections.joined([])) == 0


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut off"])
def test_a_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "d.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=re.escape(f"detections file '{path}' cannot be read")):
        Detections.load(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=re.escape(f"detections file '{tmp_path / 'd.npz'}' cannot be read (FileNot")):
        Detections.load(tmp_path / "d.npz")
