"""What changed from one model's detections to another's, on boxes placed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from yoloqat.evaluation.changes import ImageChanges, changes_of
from yoloqat.evaluation.detections import Detections
from yoloqat.evaluation.threshold import score_quantiles, threshold_for


def rows(*found):
    """Detections given as corner, side, score, class."""
    boxes = [(x, 0, x + side, side, score, label) for x, side, score, label in found]
    return np.array(boxes, dtype=np.float32).reshape(-1, 6)


def kinds(floating, other):
    found = changes_of(1, rows(*floating), rows(*other), conf=0.25, moved=0.8)
    return [(change.kind, pytest.approx(change.weight, abs=1e-6)) for change in found.changes]


@pytest.mark.parametrize(
    ("floating", "other", "expected"),
    [
        ([(0, 10, 0.9, 0)], [(0, 10, 0.8, 0)], [("kept", 0.0)]),
        ([(0, 10, 0.9, 0)], [(0, 10, 0.2, 0)], [("fell", 0.7)]),
        ([(0, 10, 0.9, 0)], [], [("lost", 0.9)]),
        ([(0, 10, 0.9, 0)], [(50, 10, 0.2, 0)], [("lost", 0.9)]),
        ([(0, 10, 0.9, 0)], [(0, 10, 0.01, 0)], [("lost", 0.9)]),  # at the floor
        ([], [(0, 10, 0.6, 1)], [("gained", 0.6)]),
        ([(0, 10, 0.2, 1)], [(0, 10, 0.6, 1)], [("rose", 0.4)]),
        ([(0, 10, 0.2, 1)], [(0, 10, 0.2, 1)], []),
        ([(0, 10, 0.9, 0)], [(2.5, 10, 0.9, 0)], [("moved", 0.4)]),  # IoU 7.5 / 12.5
        ([(0, 10, 0.9, 0)], [(0, 10, 0.6, 2)], [("relabelled", 0.9)]),
        ([(0, 10, 0.9, 0)], [(0, 10, 0.6, 2), (0, 10, 0.1, 0)], [("relabelled", 0.9)]),
        ([(0, 10, 0.9, 0), (0, 10, 0.1, 2)], [(0, 10, 0.6, 2)], [("relabelled", 0.9)]),
        (
            [(0, 10, 0.5, 0), (50, 10, 0.9, 0)],
            [(50, 10, 0.3, 0), (100, 10, 0.4, 0)],
            [("lost", 0.5), ("kept", 0), ("gained", 0.4)],
        ),
        # the most confident of two that fit takes the box
        ([(0, 10, 0.9, 0)], [(0, 10, 0.3, 0), (1, 10, 0.8, 0)], [("kept", 0.0), ("gained", 0.3)]),
    ],
)  # fmt: skip
def test_an_object_changes_in_one_way(floating, other, expected):
    assert kinds(floating, other) == expected


def test_an_image_adds_its_changes_up():
    found = changes_of(7, rows((0, 10, 0.9, 0), (50, 40, 0.5, 0)), rows((0, 10, 0.2, 0)), conf=0.25, moved=0.8)
    assert (found.image_id, found.sure, found.of_kind("lost"), found.of_kind("gained")) == (7, 2, 1, 0)
    assert found.disagreement == pytest.approx(0.7 + 0.5)
    assert [change.size for change in found.changes] == ["small", "medium"]
    assert found.changes[0].shown.score == pytest.approx(0.9)


def test_detections_come_back_image_by_image():
    first, none, second = rows((0, 10, 0.5, 1)), rows(), rows((0, 10, 0.75, 2), (5, 10, 0.25, 0))
    found = Detections.of_images([3, 4, 9], [first, none, second]).by_image()
    assert [part.tolist() for part in found] == [part.tolist() for part in (first, none, second)]
    assert Detections.of_images([], []).by_image() == []


def scored(factor, images=12, seed=0):
    """Images whose objects the other model scores by a factor lower."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(images):
        scores = rng.uniform(0.05, 0.95, 20)
        boxes = [(100 * index, 10, score, 0) for index, score in enumerate(scores)]
        lower = [(x, side, score * factor, label) for x, side, score, label in boxes]
        found.append(changes_of(number, rows(*boxes), rows(*lower), conf=0.25, moved=0.8))
    return found


def test_lower_scores_ask_for_a_lower_threshold():
    found = threshold_for(scored(0.8), 0.25)
    assert found.change
    assert found.equal == pytest.approx(0.2)
    assert (found.f1_equal, found.boxes_equal) == (1.0, found.boxes_float)
    assert found.f1 < 0.97
    told = found.to_dict()
    assert (told["advised"], told["conf"]) == (0.2, 0.25)
    low, high = told["equal_boxes_conf_ci95"]
    assert low <= 0.2 <= high < 0.25
    assert told["advice"].startswith("set the quantized model's confidence threshold to 0.2 (95 % interval ")
    middle = next(row for row in score_quantiles(scored(0.8)) if row["quantile"] == 0.5)
    assert middle["quantized"] == pytest.approx(0.8 * middle["float"])
    assert middle["shift"] == pytest.approx(middle["quantized"] - middle["float"])


def test_equal_scores_and_few_images_keep_the_threshold():
    same = threshold_for(scored(1.0), 0.25)
    assert (same.change, same.equal, same.f1) == (False, 0.25, 1.0)
    assert "keep the confidence threshold 0.25" in same.sentence
    assert "which is within noise" in same.sentence
    one = threshold_for(scored(0.8, images=1), 0.25)
    assert (one.change, one.equal_ci95) == (False, None)
    assert "one image cannot tell" in one.sentence
    empty = threshold_for([changes_of(1, rows(), rows(), conf=0.25, moved=0.8)], 0.25)
    assert "no threshold can be advised" in empty.sentence
    assert score_quantiles([]) == []


def test_as_many_boxes_that_agree_less_are_not_advised():
    """Boxes are lost, and a lower threshold would fill up with others."""
    true, false = rows(*((100 * i, 10, 0.9, 0) for i in range(10))), [(5000 + 100 * i, 10, 0.2, 0) for i in range(4)]
    other = rows(*((100 * i, 10, 0.9, 0) for i in range(7)), *false)
    images: list[ImageChanges] = [changes_of(number, true, other, conf=0.25, moved=0.8) for number in range(5)]
    found = threshold_for(images, 0.25)
    assert (found.change, found.equal < 0.25, found.f1_equal < found.f1) == (False, True, True)
    assert "they agree less" in found.sentence
