"""Masks, keypoints and rotated boxes out of raw outputs, on values placed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from yoloqat.datasets import letterbox
from yoloqat.evaluation.nms import non_max_suppression
from yoloqat.evaluation.nms_rotated import rotated_nms
from yoloqat.evaluation.objects import objects_of
from yoloqat.predictor import ModelInfo

NAMES = {0: "cat", 1: "dog"}


def geometry(height=40, width=80):
    """An image of half the canvas's height, in its middle, at its own size by default."""
    return letterbox(np.zeros((height, width, 3), np.uint8), 80)[1]


def raw(*rows):
    return np.array([rows], dtype=np.float32).transpose(0, 2, 1)


def test_nms_keeps_what_the_task_adds_to_the_boxes_that_stay():
    rows = raw([50, 50, 40, 40, 0.8, 0, 7, 8], [52, 50, 40, 40, 0.9, 0, 1, 2], [20, 20, 10, 10, 0, 0.5, 3, 4])
    found = non_max_suppression(rows, classes=2, conf=0.25, extra=True)[0]
    assert found[:, 6:].tolist() == [[1, 2], [3, 4]]
    plain = non_max_suppression(rows, classes=2, conf=0.25)[0]
    assert np.array_equal(found[:, :6], plain)
    given = np.zeros((1, 2, 8), np.float32)
    given[0, 0] = 1, 2, 3, 4, 0.9, 1, 5, 6
    assert non_max_suppression(given, classes=2, end2end=True, extra=True)[0][0, 6:].tolist() == [5, 6]
    assert non_max_suppression(given, classes=2, end2end=True)[0].shape == (1, 6)


def test_rotated_boxes_come_back_with_their_corners():
    rows = rotated_nms(raw([40, 40, 20, 10, 0.9, 0, math.pi / 2]), classes=2, extra=True)[0]
    assert rows.shape == (1, 11)
    (found,) = objects_of(rows, None, geometry(), ModelInfo(NAMES, task="obb"))
    assert found.corners is not None
    # a quarter turn: 10 wide and 20 high around (40, 40) on the canvas, 20 rows higher in the image
    assert found.corners == pytest.approx(np.array([[45, 10], [45, 30], [35, 30], [35, 10]]), abs=1e-4)
    assert found.to_dict(NAMES)["corners"] == found.corners.tolist()


def test_a_mask_is_what_is_above_zero_within_the_box_in_pixels_of_the_image():
    protos = np.full((2, 20, 20), -1.0, np.float32)
    protos[0, :, :10] = 1.0  # the left half of the canvas
    row = np.array([[10, 5, 70, 35, 0.9, 1, 1.0, 0.0]], dtype=np.float32)
    (found,) = objects_of(row, protos, geometry(), ModelInfo(NAMES, task="segment"))
    assert found.mask is not None
    ys, xs = np.nonzero(found.mask)
    assert (found.mask.shape, ys.min(), ys.max(), xs.min()) == ((40, 80), 5, 34, 10)
    assert 38 <= xs.max() <= 40
    (polygon,) = found.to_dict(NAMES)["segmentation"]
    assert (min(polygon[0::2]), max(polygon[1::2])) == (10, 34)
    assert found.to_dict(NAMES)["class"] == "dog"


def test_keypoints_are_in_pixels_of_the_image_with_their_visibility():
    scaled = geometry(20, 40)  # twice as large on the canvas
    rows = np.array([[0, 0, 9, 9, 0.9, 0, 20, 40, 0.9, 60, 30, 0.1]], dtype=np.float32)
    (found,) = objects_of(rows, None, scaled, ModelInfo(NAMES, task="pose"))
    assert found.to_dict(NAMES)["keypoints"] == [pytest.approx([10, 10, 0.9]), pytest.approx([30, 5, 0.1])]
    flat = np.array([[0, 0, 9, 9, 0.9, 0, 20, 40, 60, 30]], dtype=np.float32)
    (found,) = objects_of(flat, None, scaled, ModelInfo(NAMES, task="pose"))
    assert found.to_dict(NAMES)["keypoints"] == [[10, 10], [30, 5]]


def test_a_plain_detector_has_boxes_alone():
    (found,) = objects_of(np.array([[1, 2, 3, 4, 0.5, 0]], np.float32), None, geometry(), ModelInfo(NAMES))
    assert found.to_dict(NAMES) == {"class": "cat", "class_id": 0, "score": 0.5, "box": [1, 2, 3, 4]}
