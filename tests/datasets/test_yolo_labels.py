from __future__ import annotations

import re
from pathlib import Path

import pytest

from yoloqat.datasets.records import ImageRecord
from yoloqat.datasets.yolo_labels import label_path, parse_label, read_labels
from yoloqat.errors import DataError


def test_the_last_images_directory_becomes_labels():
    assert label_path(Path("/images/set/images/val/a.b.jpg")) == Path("/images/set/labels/val/a.b.txt")
    assert label_path(Path("/set/val/images.jpg")) == Path("/set/val/images.txt")


def test_a_polygon_counts_with_its_box():
    assert parse_label("3 0.5 0.5 0.25 0.125") == (3, (0.5, 0.5, 0.25, 0.125))
    assert parse_label("3 0.25 0.5 0.75 0.5 0.75 1") == (3, (0.5, 0.75, 0.5, 0.5))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0 0.5 0.5 0.2", "4 fields"),
        ("0 0.5 0.5 0.2 0.2 0.1", "6 fields"),
        ("0 0.5 0.5 0.2 0.2 0.1 0.1 0.1", "8 fields"),
        ("0 50 50 20 20", "coordinates outside 0 to 1"),
        ("0 0.5 nan 0.2 0.2", "coordinates outside 0 to 1"),
        ("0 0.5 0.5 0.2 -0.005", "a negative side"),
        ("x 0.5 0.5 0.2 0.2", "invalid literal"),
        ("7 0.5 0.5 0.2 0.2", "class 7 of 2"),
        ("-1 0.5 0.5 0.2 0.2", "class -1 of 2"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, line, reason):
    path = tmp_path / "a.txt"
    path.write_text(f"0 0.5 0.5 0.2 0.2\n{line}\n")
    with pytest.raises(DataError, match=re.escape(f"label file '{path}' has the line '{line}' ({reason}")):
        read_labels([ImageRecord(tmp_path / "a.png", 1, 10, 20)], {0: "cat", 1: "dog"})


def test_labels_become_pixels_and_repeated_lines_one_object(tmp_path):
    (tmp_path / "a.txt").write_text("1 0.5 0.5 0.2 0.4\n1 0.5 0.5 0.2 0.4\n")
    images = [ImageRecord(tmp_path / "a.png", 4, 10, 20), ImageRecord(tmp_path / "b.png", 6, 10, 20)]
    labels = read_labels(images, {0: "cat", 1: "dog"})
    (annotation,) = labels["annotations"]
    assert annotation["bbox"] == pytest.approx([4.0, 6.0, 2.0, 8.0])
    assert annotation["area"] == pytest.approx(16.0)
    assert (annotation["id"], annotation["image_id"], annotation["category_id"]) == (1, 4, 1)
    assert [entry["id"] for entry in labels["images"]] == [4, 6]


def test_images_without_any_label_are_told(tmp_path):
    with pytest.raises(DataError, match=re.escape(f"none of 1 images has a label, e.g. not '{tmp_path / 'a.txt'}'")):
        read_labels([ImageRecord(tmp_path / "a.png", 1, 10, 20)], {0: "cat"})
