from pathlib import Path

import cv2
import numpy as np
import pytest

from yoloqat.errors import DataError, ModelError
from yoloqat.evaluation.task_metrics import TaskImage, task_metrics
from yoloqat.predictor import ModelInfo

SIZE = 64


class Answers:
    """A predictor that gives the same raw outputs for every image."""

    def __init__(self, task: str, columns: list[list[float]], proto: np.ndarray | None = None, batch=None) -> None:
        self.info = ModelInfo({0: "cat", 1: "dog"}, task=task, batch=batch)
        self._columns, self._proto, self.batches = np.array(columns, dtype=np.float32).T, proto, []

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        self.batches.append(len(images))
        raw = np.repeat(self._columns[None], len(images), axis=0)
        return [raw] if self._proto is None else [raw, np.repeat(self._proto[None], len(images), axis=0)]


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    cv2.imwrite(str(path), np.full((SIZE, SIZE, 3), 90, dtype=np.uint8))
    return path


def rotated(angle: float) -> TaskImage:
    points = cv2.boxPoints(((32.0, 32.0), (40.0, 12.0), np.degrees(angle))) / SIZE
    return " ".join(["1", *(f"{number:.6f}" for number in points.flatten())])


def test_a_rotated_box_in_its_place_is_right(picture):
    found = task_metrics(
        Answers("obb", [[32, 32, 40, 12, 0, 0.9, 0.5]]), [TaskImage(picture, (rotated(0.5),))], imgsz=SIZE, batch=1
    )
    assert set(found) == {"rotated_map50_95", "rotated_map50"}
    assert found["rotated_map50_95"] > 0.98


def test_a_canvas_that_is_no_square_shifts_the_boxes(picture):
    label, wide = TaskImage(picture, (rotated(0.5),)), (SIZE, SIZE + 32)
    for x, good in ((32 + 16, True), (32, False)):
        found = task_metrics(Answers("obb", [[x, 32, 40, 12, 0, 0.9, 0.5]]), [label], imgsz=wide, batch=1)
        assert (found["rotated_map50"] > 0.98) is good


def test_a_rotated_box_turned_the_wrong_way_is_not(picture):
    found = task_metrics(
        Answers("obb", [[32, 32, 40, 12, 0, 0.9, -0.9]]), [TaskImage(picture, (rotated(0.5),))], imgsz=SIZE, batch=1
    )
    assert found["rotated_map50"] < 0.1


@pytest.mark.parametrize(("offset", "good"), [(0.0, True), (25.0, False)])
def test_keypoints_count_by_their_distance(picture, offset, good):
    raw = [32, 32, 40, 40, 0, 0.9, 20 + offset, 20, 1, 40, 44 - offset, 1]
    label = "1 .5 .5 .625 .625 .3125 .3125 2 .625 .6875 2"
    found = task_metrics(Answers("pose", [raw]), [TaskImage(picture, (label,))], imgsz=SIZE, batch=1, kpt_shape=(2, 3))
    assert (found["pose_map50_95"] > 0.98) is good
    assert found["box_map50_95"] > 0.98


@pytest.mark.parametrize(("sign", "good"), [(1.0, True), (-1.0, False)])
def test_masks_count_by_their_pixels(picture, sign, good):
    proto = np.full((1, SIZE // 4, SIZE // 4), -1.0, dtype=np.float32)
    proto[:, 4:12, 4:12] = 1.0
    label = "1 .25 .25 .75 .25 .75 .75 .25 .75"
    answers = Answers("segment", [[32, 32, 32, 32, 0, 0.9, sign]], proto)
    found = task_metrics(answers, [TaskImage(picture, (label,))], imgsz=SIZE, batch=1)
    assert (found["mask_map50"] > 0.98) is good
    assert found["box_map50_95"] > 0.98


def test_a_fixed_batch_is_filled_up(picture):
    answers = Answers("obb", [[32, 32, 40, 12, 0, 0.9, 0.5]], batch=2)
    task_metrics(answers, [TaskImage(picture, (rotated(0.5),))] * 3, imgsz=SIZE, batch=1)
    assert set(answers.batches) == {2}


def test_nothing_is_left_beside_the_images(picture):
    task_metrics(
        Answers("obb", [[32, 32, 40, 12, 0, 0.9, 0.5]]), [TaskImage(picture, (rotated(0.5),))], imgsz=SIZE, batch=1
    )
    assert [path.name for path in picture.parent.iterdir()] == ["picture.png"]


def test_where_links_are_not_allowed_images_are_copied(picture, monkeypatch):
    def not_allowed(*_, **__):
        raise OSError(1314, "A required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", not_allowed)
    test_a_rotated_box_in_its_place_is_right(picture)


def test_a_task_without_such_a_metric_is_refused(picture):
    with pytest.raises(ModelError, match="the model's task is 'detect'"):
        task_metrics(Answers("detect", [[0] * 6]), [TaskImage(picture, ("0",))], imgsz=SIZE, batch=1)


def test_images_without_labels_are_refused(picture):
    with pytest.raises(DataError, match="none of 1 images has a label for the task 'segment'"):
        task_metrics(Answers("segment", [[0] * 6]), [TaskImage(picture, ())], imgsz=SIZE, batch=1)


def test_poses_need_their_shape(picture):
    with pytest.raises(DataError, match="no kpt_shape"):
        task_metrics(Answers("pose", [[0] * 6]), [TaskImage(picture, ("0",))], imgsz=SIZE, batch=1)
