from __future__ import annotations

import numpy as np

from yoloqat.datasets import DetectionDataset, ImageRecord
from yoloqat.evaluation import Detections, score


def test_right_ignored_and_wrong_detections_are_told_apart(tmp_path):
    labels = [
        {"id": 1, "image_id": 4, "category_id": 2, "bbox": [0, 0, 10, 10], "area": 100, "iscrowd": 0},
        {"id": 2, "image_id": 9, "category_id": 2, "bbox": [50, 50, 40, 40], "area": 1600, "iscrowd": 1},
    ]
    content = {"images": [{"id": 9}, {"id": 4}], "annotations": labels, "categories": [{"id": 2, "name": "cat"}]}
    records = tuple(ImageRecord(tmp_path / f"{number}.png", number, 100, 100) for number in (9, 4))
    rows = [
        np.array([[52, 52, 60, 60, 0.9, 0], [0, 0, 10, 10, 0.5, 0]], np.float32),  # on the crowd, and on nothing
        np.array([[0, 0, 10, 8, 0.7, 0]], np.float32),  # IoU 0.8 with the object
    ]
    matches = score(
        DetectionDataset(records, {0: "cat"}, content), Detections.of_images([9, 4], rows), {0: "cat"}
    ).matches
    assert matches.image_ids == (4, 9)
    (category,) = matches.categories
    assert category.category_id == 2
    assert category.image.tolist() == [1, 0, 1]
    np.testing.assert_allclose(category.scores, [0.9, 0.7, 0.5], rtol=1e-6)
    assert category.ignored.tolist() == [[True, False, False]] * 10
    # thresholds 0.50, 0.55, ..., 0.80 are reached
    assert category.correct[:, 1].tolist() == [True] * 7 + [False] * 3
    assert not category.correct[:, [0, 2]].any()
    assert category.objects.tolist() == [1, 0]


def test_a_category_without_objects_is_left_out(problem):
    dataset, detections = problem(2)
    dataset.annotations["annotations"][:] = [
        entry for entry in dataset.annotations["annotations"] if entry["category_id"] == 7
    ]
    matches = score(dataset, detections, dataset.names).matches
    assert [category.category_id for category in matches.categories] == [7]
