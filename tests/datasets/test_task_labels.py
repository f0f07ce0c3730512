import re
from pathlib import Path

import pytest

from yoloqat.datasets import DetectionDataset, ImageRecord, task_labels
from yoloqat.errors import DataError

NAMES = {0: "cat", 1: "dog"}
MODEL = {0: "dog", 1: "cat"}


def dataset(*entries: dict, images: int = 2, kpt_shape=None, folder: Path = Path("/nowhere")) -> DetectionDataset:
    records = tuple(ImageRecord(folder / "images" / f"{n}.jpg", n, 100, 50) for n in range(1, images + 1))
    annotations = [
        {"id": n, "bbox": [10, 10, 20, 10], "area": 200, "iscrowd": 0, "category_id": 0} | entry
        for n, entry in enumerate(entries, start=1)
    ]
    categories = [{"id": index, "name": name} for index, name in NAMES.items()]
    content = {"images": [], "annotations": annotations, "categories": categories}
    return DetectionDataset(records, NAMES, content, "test", kpt_shape)


def test_polygons_become_fractions_in_the_models_classes():
    found = task_labels(dataset({"image_id": 1, "segmentation": [[10, 10, 30, 10, 30, 20]]}), "segment", MODEL)
    assert list(found.values()) == [
        ("1 0.100000 0.200000 0.300000 0.200000 0.300000 0.400000",),
        (),
    ]


def test_parts_are_joined_into_one_ring():
    parts = [[0, 0, 10, 0, 10, 10], [50, 20, 60, 20, 60, 30]]
    (line,) = next(iter(task_labels(dataset({"image_id": 1, "segmentation": parts}), "segment", MODEL).values()))
    numbers = [float(number) for number in line.split()[1:]]
    points = [(x * 100, y * 50) for x, y in zip(numbers[::2], numbers[1::2], strict=True)]
    assert points == [(0, 0), (10, 0), (10, 10), (0, 0), (50, 20), (60, 20), (60, 30), (50, 20), (0, 0)]


def test_images_with_an_object_that_has_no_mask_are_left_out():
    found = task_labels(
        dataset(
            {"image_id": 1, "segmentation": [[10, 10, 30, 10, 30, 20]]},
            {"image_id": 1},
            {"image_id": 2, "iscrowd": 1, "segmentation": {"counts": [], "size": [50, 100]}},
        ),
        "segment",
        MODEL,
    )
    assert [record.image_id for record in found] == [2]
    assert list(found.values()) == [()]


def test_keypoints_follow_their_box():
    entry = {"image_id": 1, "keypoints": [10, 10, 2, 0, 0, 0], "num_keypoints": 1, "category_id": 1}
    found = task_labels(dataset(entry, kpt_shape=(2, 3)), "pose", MODEL)
    expected = "0 0.200000 0.300000 0.200000 0.200000 0.100000 0.200000 2.000000 0.000000 0.000000 0.000000"
    assert next(iter(found.values())) == (expected,)


def test_an_object_without_keypoints_has_no_line():
    entry = {"image_id": 1, "keypoints": [0, 0, 0], "num_keypoints": 0}
    other = {"image_id": 2, "keypoints": [5, 5, 1], "num_keypoints": 1}
    assert [len(lines) for lines in task_labels(dataset(entry, other), "pose", MODEL).values()] == [0, 1]


@pytest.mark.parametrize(
    ("task", "line", "kpt_shape"),
    [
        ("obb", "0 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.25937", None),
        ("segment", "0 0.1 0.1 0.2 0.1 0.2 0.2", None),
        ("pose", "0 0.1 0.1 0.2 0.1 0.2 0.2 2.0", (1, 3)),
    ],
)
def test_label_files_are_taken_as_they_are(tmp_path, task, line, kpt_shape):
    (tmp_path / "labels").mkdir()
    other = line.replace("0 ", "0.0\t", 1).replace(" 0.", "  .")  # the same numbers
    (tmp_path / "labels" / "1.txt").write_text(f"{line}\n{other}\n")
    (tmp_path / "labels" / "2.txt").write_text("1 .5 .5 .1 .1\n")
    found = task_labels(dataset({"image_id": 1}, kpt_shape=kpt_shape, folder=tmp_path), task, MODEL)
    assert {record.image_id: lines for record, lines in found.items()} == {1: (f"1{line[1:]}",)}


@pytest.mark.parametrize(
    ("task", "key", "value"),
    [
        ("segment", "segmentation", [[10, 10, 30, 10, 30]]),
        ("segment", "segmentation", [10, 10, 30, 10, 30, 20]),
        ("segment", "segmentation", [[10, 10, 30, "10", 30, 20]]),
        ("segment", "segmentation", [[10, 10, 30, float("nan"), 30, 20]]),
        ("pose", "keypoints", [10, 10]),
        ("pose", "keypoints", [10, 10, 2]),
        ("pose", "keypoints", [10, 10, 2, 0, 0, None]),
        ("pose", "keypoints", {"x": 1}),
    ],
)
def test_malformed_labels_of_a_json_are_named(task, key, value):
    shown = value[0] if key == "segmentation" else value
    with pytest.raises(DataError, match=re.escape(f"annotation 1 of image 2 has the {key} {shown!r}")):
        task_labels(dataset({"image_id": 2, key: value}, kpt_shape=(2, 3)), task, MODEL)


def test_unfit_names_are_refused():
    with pytest.raises(DataError, match="model classes without a category: 'cow'"):
        task_labels(dataset({"image_id": 1}), "obb", {0: "cow", 1: "cat"})
