from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import pytest

from yoloqat.datasets.coco_json import match_files, read_coco, restricted
from yoloqat.errors import DataError

GOOD = {
    "images": [{"id": 3, "file_name": "a.jpg"}, {"id": 5, "file_name": "sub/b.jpg"}],
    "annotations": [
        {"id": 0, "image_id": 3, "category_id": 1, "bbox": [1, 2, 3, 4], "area": 5.5, "iscrowd": 1},
        {"id": 0, "image_id": 5, "category_id": 1, "bbox": [1, 2, 3, 4]},
    ],
    "categories": [{"id": 1, "name": " cat "}],
}


def changed(**changes):
    return copy.deepcopy(GOOD) | changes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "has no images"),
        (changed(images=[]), "has no images"),
        ({"images": GOOD["images"], "categories": GOOD["categories"]}, "has no annotations"),
        (changed(categories={}), "has no categories"),
        (changed(images=[{"id": 3}]), "images holds an entry without a valid file_name: {'id': 3}"),
        (changed(images=[{"id": "x", "file_name": "a"}]), "without a valid id: {'id': 'x', 'file_name': 'a'}"),
        (changed(categories=[7]), "categories holds an entry without a valid id: 7"),
        (changed(images=GOOD["images"] * 2), "images holds an id more than once: 3"),
        (changed(annotations=[GOOD["annotations"][0] | {"bbox": [1, 2, 3]}]), r"without a valid bbox: .*\[1, 2, 3\]"),
        (changed(annotations=[GOOD["annotations"][0] | {"bbox": [1, 2, -3, 4]}]), "without a valid bbox: .*-3"),
        (changed(annotations=[GOOD["annotations"][0] | {"bbox": [1, 2, 3, float("nan")]}]), "valid bbox: .*nan"),
        (changed(annotations=[GOOD["annotations"][0] | {"image_id": 9}]), "unknown image or category: .*'image_id': 9"),
        (changed(annotations=[GOOD["annotations"][0] | {"category_id": 8}]), "unknown image or category: .*_id': 8"),
    ],
)
def test_a_malformed_json_is_told(tmp_path, content, message):
    path = tmp_path / "i.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=f"annotation file '{re.escape(str(path))}'.*{message}"):
        read_coco(path)


def test_a_file_that_is_not_json_is_told(tmp_path):
    (tmp_path / "i.json").write_text("{")
    with pytest.raises(DataError, match=r"i.json' is not JSON \(.*line 1"):
        read_coco(tmp_path / "i.json")


def test_annotations_are_numbered_from_one_and_completed(tmp_path):
    path = tmp_path / "i.json"
    path.write_text(json.dumps(GOOD))
    content = read_coco(path)
    labels = restricted(content, content["images"])
    assert [entry["id"] for entry in labels["annotations"]] == [1, 2]
    assert [entry["area"] for entry in labels["annotations"]] == [5.5, 12.0]
    assert [entry["iscrowd"] for entry in labels["annotations"]] == [1, 0]
    assert labels["categories"] == [{"id": 1, "name": "cat"}]
    assert restricted(content, content["images"][1:])["annotations"][0]["image_id"] == 5


def test_images_match_by_the_end_of_their_path():
    entries = match_files(GOOD, [Path("/d/sub/b.jpg"), Path("/d/x/a.jpg")], "i.json")
    assert [entry["id"] for entry in entries] == [5, 3]


def test_an_image_without_an_entry_and_two_of_one_entry_are_named():
    with pytest.raises(DataError, match=r"image '/d/b.jpg' is not in 'i.json'"):
        match_files(GOOD, [Path("/d/b.jpg")], "i.json")
    with pytest.raises(DataError, match=r"images '/d/a.jpg' and '/e/a.jpg' are both 'a.jpg' in 'i.json'"):
        match_files(GOOD, [Path("/d/a.jpg"), Path("/e/a.jpg")], "i.json")
