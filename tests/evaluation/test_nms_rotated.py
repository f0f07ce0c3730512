import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from yoloqat.evaluation.nms_rotated import rotated_nms, upright


def raw(*rows: list[float]) -> np.ndarray:
    return np.array([rows], dtype=np.float32).transpose(0, 2, 1)


def test_of_two_boxes_in_one_place_the_better_stays():
    found = rotated_nms(raw([50, 50, 40, 10, 0.8, 0, 0.3], [50, 50, 40, 10, 0.9, 0, 0.3]), classes=2)[0]
    assert found[:, 4:].tolist() == [[pytest.approx(0.9), 0.0]]


def test_crossed_boxes_both_stay_though_their_upright_boxes_overlap():
    crossed = raw([50, 50, 60, 6, 0.9, 0, math.pi / 4], [50, 50, 60, 6, 0.8, 0, -math.pi / 4])
    found = rotated_nms(crossed, classes=2)[0]
    assert len(found) == 2
    assert np.allclose(found[0, :4], found[1, :4], atol=1e-4)


def test_boxes_of_different_classes_both_stay():
    assert len(rotated_nms(raw([50, 50, 40, 10, 0.9, 0.8, 0.3]), classes=2)[0]) == 2


def test_weak_boxes_and_too_many_are_dropped():
    rows = [[60 * n + 30, 30, 20, 20, 0.1 * n, 0, 0] for n in range(1, 6)]
    assert rotated_nms(raw(*rows), classes=2, conf=0.25, max_det=2)[0][:, 4].tolist() == pytest.approx([0.5, 0.4])


def test_an_image_may_be_empty():
    assert rotated_nms(raw([50, 50, 40, 10, 0, 0, 0.3]), classes=2)[0].shape == (0, 6)


def test_an_end_to_end_head_is_only_cut():
    rows = np.array(
        [[[50, 50, 40, 10, 0.9, 1, 0], [50, 50, 40, 10, 0.8, 1, 0], [0, 0, 1, 1, 0, 0, 0]]], dtype=np.float32
    )
    found = rotated_nms(rows, classes=2, end2end=True)[0]
    assert found.tolist() == [pytest.approx([30, 45, 70, 55, 0.9, 1]), pytest.approx([30, 45, 70, 55, 0.8, 1])]


@given(st.floats(1, 50), st.floats(1, 50), st.floats(-4, 4))
def test_the_upright_box_touches_all_corners(width, height, angle):
    box = upright(torch.tensor([[10.0, 20.0, width, height]]), torch.tensor([angle]))[0]
    signs = torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, -1]]) / 2
    x, y = signs[:, 0] * width, signs[:, 1] * height
    corners = torch.stack(
        (10 + x * math.cos(angle) - y * math.sin(angle), 20 + x * math.sin(angle) + y * math.cos(angle)), 1
    )
    assert torch.allclose(box, torch.cat((corners.amin(0), corners.amax(0))), atol=1e-3)
