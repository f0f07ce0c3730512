from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yoloqat.errors import ModelError
from yoloqat.evaluation.fidelity import matched, mean, measure, noise
from yoloqat.predictor import ModelInfo

INFO = ModelInfo(names={0: "cat", 1: "dog"})
END2END = ModelInfo(names={0: "cat", 1: "dog"}, end2end=True)


def raw(*anchors, extra=()):
    """One image: per anchor cx, cy, w, h and two class probabilities, and what a task adds."""
    rows = [[*anchor, *(extra[index] if extra else ())] for index, anchor in enumerate(anchors)]
    return np.asarray(rows, np.float32).T[None]


def rows(*detections):
    return np.asarray(detections, np.float32)[None]


def test_noise_is_the_absolute_error_relative_to_the_float_probabilities():
    p = np.array([[[0.5, 0.3], [0.2, 0.0]], [[0.1, 0.1], [0.0, 0.0]]], np.float32)
    q = np.array([[[0.4, 0.5], [0.2, 0.1]], [[0.1, 0.1], [0.0, 0.0]]], np.float32)
    assert noise(p, q) == pytest.approx([0.4, 0.0], abs=1e-7)


def test_an_image_without_any_probability_has_no_noise():
    assert math.isnan(noise(np.zeros((1, 2, 3), np.float32), np.ones((1, 2, 3), np.float32))[0])


@given(st.floats(0.1, 10.0))
def test_noise_does_not_depend_on_the_scale_of_both(scale):
    rng = np.random.default_rng(0)
    p, q = rng.random((2, 3, 2, 5)).astype(np.float32)
    assert noise(p * np.float32(scale), q * np.float32(scale)) == pytest.approx(noise(p, q), rel=1e-5)


def test_a_model_compared_with_itself_has_no_noise():
    p = raw((10, 10, 4, 4, 0.9, 0.1), (30, 30, 8, 8, 0.1, 0.1))
    found = measure([p], [p], INFO)
    assert {name: values.tolist() for name, values in found.items()} == {
        "d": [0.0],
        "box_disagreement": [0.0],
        "score_shift": [0.0],
    }


def test_boxes_and_scores_are_compared_where_the_float_model_believes():
    p = raw((10, 10, 4, 4, 0.9, 0.1), (30, 30, 8, 8, 0.1, 0.1))
    q = raw((11, 10, 4, 4, 0.7, 0.8), (90, 90, 8, 8, 0.1, 0.1))  # the second anchor is not believed in
    found = measure([p], [q], INFO)
    assert found["d"] == pytest.approx([(0.2 + 0.7) / 1.2])
    assert found["box_disagreement"] == pytest.approx([1 - 12 / 20])
    assert found["score_shift"] == pytest.approx([-0.2])


def test_an_image_of_nothing_has_noise_but_no_boxes_to_compare():
    p, q = raw((10, 10, 4, 4, 0.2, 0.1)), raw((10, 10, 4, 4, 0.2, 0.2))
    found = measure([p], [q], INFO)
    assert found["d"] == pytest.approx([1 / 3])
    assert math.isnan(found["box_disagreement"][0])
    assert math.isnan(found["score_shift"][0])


def test_the_detections_of_end_to_end_heads_are_paired_by_class_and_overlap():
    p = rows((0, 0, 10, 10, 0.8, 0), (20, 20, 30, 30, 0.4, 1), (50, 50, 60, 60, 0.2, 0))
    q = rows((20, 20, 30, 30, 0.5, 1), (0, 0, 10, 8, 0.6, 0), (50, 50, 60, 60, 0.2, 1))
    found = measure([p], [q], END2END)
    # 0.2 and 0.1 of the pairs, 0.2 of the lost and 0.2 of the gained
    assert found["d"] == pytest.approx([(0.2 + 0.1 + 0.2 + 0.2) / 1.4])
    assert found["box_disagreement"] == pytest.approx([(0.2 + 0.0) / 2])
    assert found["score_shift"] == pytest.approx([(-0.2 + 0.1) / 2])


def test_an_end_to_end_head_that_finds_nothing_costs_all_of_it():
    found = measure([rows((0, 0, 10, 10, 0.8, 0))], [np.zeros((1, 0, 6), np.float32)], END2END)
    assert found["d"] == pytest.approx([1.0])
    assert math.isnan(found["box_disagreement"][0])


def test_a_detection_has_one_partner_at_most():
    a = rows((0, 0, 10, 10, 0.8, 0), (0, 0, 10, 9, 0.7, 0))[0]
    b = rows((0, 0, 10, 9, 0.6, 0))[0]
    assert [positions.tolist() for positions in matched(a, b)] == [[0], [0]]
    assert [positions.tolist() for positions in matched(a, a)] == [[0, 1], [0, 1]]


def test_rotated_boxes_of_another_angle_disagree():
    info = ModelInfo(names=INFO.names, task="obb")
    p = raw((50, 50, 40, 10, 0.9, 0.1), extra=[(0.0,)])
    same = measure([p], [p.copy()], info)["box_disagreement"][0]
    turned = measure([p], [raw((50, 50, 40, 10, 0.9, 0.1), extra=[(0.3,)])], info)["box_disagreement"][0]
    assert same == pytest.approx(0.0, abs=0.01)
    assert turned > 0.2


def test_rotated_end_to_end_detections_are_paired():
    info = ModelInfo(names=INFO.names, task="obb", end2end=True)
    p = rows((50, 50, 40, 10, 0.8, 0, 0.0), (50, 50, 40, 10, 0.5, 1, 0.0))
    found = measure([p], [rows((50, 50, 40, 10, 0.6, 0, 0.0))], info)
    assert found["d"] == pytest.approx([(0.2 + 0.5) / 1.3])


def test_masks_are_compared_within_their_boxes():
    info = ModelInfo(names=INFO.names, task="segment")
    protos = np.ones((1, 1, 8, 8), np.float32)  # a quarter of 32 x 32
    p = raw((16, 16, 16, 16, 0.9, 0.1), extra=[(1.0,)])
    q = raw((16, 16, 16, 8, 0.9, 0.1), extra=[(1.0,)])
    found = measure([p, protos], [q, protos], info)
    assert found["mask_disagreement"] == pytest.approx([0.5])
    gone = measure([p, protos], [raw((16, 16, 16, 16, 0.9, 0.1), extra=[(-1.0,)]), protos], info)
    assert gone["mask_disagreement"] == pytest.approx([1.0])


def test_keypoints_are_compared_by_their_distance_in_units_of_the_object():
    info = ModelInfo(names=INFO.names, task="pose")
    points = (20.0, 20.0, 0.9, 30.0, 30.0, 0.9)
    p = raw((16, 16, 16, 16, 0.9, 0.1), extra=[points])
    assert measure([p], [p.copy()], info)["keypoint_disagreement"] == pytest.approx([0.0])
    moved = raw((16, 16, 16, 16, 0.9, 0.1), extra=[(20.0, 36.0, 0.9, 30.0, 30.0, 0.9)])
    # two keypoints have sigma 1/2; exp(-16^2 / (2 * 16^2 * (2 / 2)^2)) for the one that moved
    assert measure([p], [moved], info)["keypoint_disagreement"] == pytest.approx([(1 - math.exp(-0.5)) / 2])


def test_outputs_of_another_shape_are_refused():
    p = raw((10, 10, 4, 4, 0.9, 0.1))
    message = "shapes (1, 6, 1) and (1, 6, 2), which cannot be compared"
    with pytest.raises(ModelError, match=re.escape(message)):
        measure([p], [np.concatenate((p, p), axis=2)], INFO)
    with pytest.raises(ModelError, match=re.escape("shapes (1, 6, 1) and (1, 6, 1)")):
        measure([p], [p], INFO, end2end=True)


def test_the_mean_has_an_interval_that_holds_it_and_narrows_with_images():
    values = np.random.default_rng(0).normal(1.0, 0.1, 400)
    few, many = mean(values[:16]), mean(values)
    assert few.low < few.value < few.high
    assert many.high - many.low == pytest.approx(2 * 1.96 * 0.1 / 20, rel=0.2)
    assert few.high - few.low > 3 * (many.high - many.low)
    assert many.to_dict("d") == {"d": many.value, "d_ci95": [many.low, many.high]}


def test_images_without_a_value_do_not_count():
    found = mean(np.array([1.0, np.nan, 3.0]))
    assert (found.value, found.images) == (2.0, 2)
    assert mean(np.array([np.nan, 2.0])).to_dict("d") == {
        "d": 2.0,
        "d_ci95": None,
        "d_ci95_reason": "one image does not tell how images differ",
    }
    assert mean(np.array([np.nan])).to_dict("d")["d"] is None
