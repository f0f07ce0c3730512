from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from yoloqat.detectors.ultralytics_import import ultralytics_module
from yoloqat.evaluation import nms
from yoloqat.evaluation.nms import non_max_suppression


def random_raw(seed, *, batch=2, classes=3, anchors=200, extra=0):
    rng = np.random.default_rng(seed)
    centre = rng.uniform(0, 640, (batch, 2, anchors // 4)).repeat(4, axis=2) + rng.normal(0, 6, (batch, 2, anchors))
    sides = rng.uniform(20, 200, (batch, 2, anchors // 4)).repeat(4, axis=2) * rng.uniform(
        0.8, 1.2, (batch, 2, anchors)
    )
    scores = rng.random((batch, classes, anchors)) ** 8
    rest = rng.normal(size=(batch, extra, anchors))
    return np.concatenate((centre, sides, scores, rest), axis=1).astype(np.float32)


def reference(raw, *, classes, conf, iou, max_det):
    found = ultralytics_module("utils.nms").non_max_suppression(
        torch.from_numpy(raw.copy()), conf, iou, multi_label=True, max_det=max_det, nc=classes, max_time_img=1e6
    )
    return [image[:, :6].numpy() for image in found]


def assert_equal(found, expected):
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_array_equal(ours, theirs)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 5),
    st.sampled_from([0, 7]),
    st.sampled_from([0.001, 0.1, 0.999999]),
    st.sampled_from([0.0, 0.45, 0.7, 1.0]),
    st.sampled_from([1, 20, 300]),
)
def test_it_equals_the_validator_of_ultralytics(seed, classes, extra, conf, iou, max_det):
    raw = random_raw(seed, classes=classes, extra=extra)
    found = non_max_suppression(raw, classes=classes, conf=conf, iou=iou, max_det=max_det)
    assert_equal(found, reference(raw, classes=classes, conf=conf, iou=iou, max_det=max_det))


def test_it_equals_the_validator_beyond_the_limit_of_candidates():
    raw = random_raw(1, batch=1, classes=40, anchors=1200)
    raw[:, 4:] = np.random.default_rng(0).permutation(40 * 1200).reshape(1, 40, 1200) / 50000 + 0.01
    assert (raw[:, 4:] > 0.001).sum() > nms.MAX_CANDIDATES
    found = non_max_suppression(raw, classes=40, conf=0.001, iou=0.7, max_det=300)
    assert_equal(found, reference(raw, classes=40, conf=0.001, iou=0.7, max_det=300))


def test_a_box_may_have_several_labels_and_classes_do_not_suppress_each_other():
    raw = np.array([[50, 50, 20, 20, 0.9, 0.8], [50, 50, 20, 20, 0.7, 0.0]], np.float32).T[None]
    (found,) = non_max_suppression(raw, classes=2)
    np.testing.assert_array_equal(
        found, np.array([[40, 40, 60, 60, 0.9, 0], [40, 40, 60, 60, 0.8, 1]], dtype=np.float32)
    )


def test_nothing_above_the_threshold_gives_empty_arrays():
    found = non_max_suppression(np.zeros((2, 6, 5), np.float32), classes=2)
    assert [image.shape for image in found] == [(0, 6), (0, 6)]


def test_tensors_and_arrays_give_the_same_and_stay_as_they_were():
    raw = random_raw(3)
    kept = raw.copy()
    tensors = non_max_suppression(torch.from_numpy(raw), classes=3)
    assert_equal(non_max_suppression(raw, classes=3), tensors)
    np.testing.assert_array_equal(raw, kept)
    raw.setflags(write=False)
    assert_equal(non_max_suppression(raw, classes=3), tensors)


@pytest.mark.parametrize("extra", [0, 4])
def test_an_end_to_end_head_is_only_filtered(extra):
    rows = np.zeros((1, 4, 6 + extra), np.float32)
    rows[0, :, 4] = [0.9, 0.0005, 0.5, 0.4]
    rows[0, :, :4] = [10, 10, 20, 20]
    (found,) = non_max_suppression(rows, classes=80, max_det=2, end2end=True)
    np.testing.assert_array_equal(found, rows[0, [0, 2], :6])
