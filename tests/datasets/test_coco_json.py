from __future__ import annotations

import contextlib
import copy
import json
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


UNFIT_IDS = ["3", True, None, 2**63, -(2**63) - 1, 3.5, 1e300]
UNFIT_NAMES = ["", " ", "a\0.jpg", "\ud800.jpg", "a" * 5000, "/".join(["abcd"] * 1000), 7]
UNFIT_FIELDS = [
    ("image_id", "3"),
    ("image_id", 2**63),
    ("category_id", True),
    ("bbox", "1 2 3 4"),
    ("bbox", [1, 2, 3, True]),
    ("bbox", [1, 2, 3, "4"]),
    ("bbox", [1, 2, 3, 10**400]),
    ("bbox", [1e10, 2, 3, 4]),
    ("area", float("nan")),
    ("area", float("inf")),
    ("area", "5"),
    ("area", True),
    ("area", 10**400),
    ("iscrowd", 2),
    ("iscrowd", "0"),
    ("iscrowd", []),
]


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
        *((changed(images=[{"id": n, "file_name": "a"}]), f"valid id: {{'id': {n!r},") for n in UNFIT_IDS),
        *((changed(images=[{"id": 3, "file_name": n}]), "valid file_name: {'id': 3, ") for n in UNFIT_NAMES),
        (changed(categories=[{"id": 1, "name": "\ud800"}]), "categories holds an entry without a valid name: {'id': 1"),
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
    expected = message if "*" in message else re.escape(message)
    with pytest.raises(DataError, match=f"annotation file '{re.escape(str(path))}'.*{expected}"):
        read_coco(path)


@pytest.mark.parametrize(("key", "value"), UNFIT_FIELDS)
def test_a_malformed_annotation_is_told(tmp_path, key, value):
    path = tmp_path / "i.json"
    path.write_text(json.dumps(changed(annotations=[GOOD["annotations"][0] | {key: value}])))
    with pytest.raises(
        DataError, match=f"annotations holds an entry without a valid {key}: .*{re.escape(repr(value)[:50])}"
    ):
        read_coco(path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "line 1"),
        ("[" * 100_000, "recursion"),
        ('{"images": ' * 100_000, "recursion"),
        ("[" + "9" * 5000 + "]", "Exceeds the limit"),
        ("\0", "line 1"),
    ],
)
def test_a_file_that_is_not_json_is_told(tmp_path, text, reason):
    (tmp_path / "i.json").write_text(text)
    with pytest.raises(DataError, match=rf"i.json' is not JSON \(.*{reason}"):
        read_coco(tmp_path / "i.json")


def read(tmp_path, content):
    path = tmp_path / "i.json"
    path.write_text(json.dumps(content))
    return read_coco(path)


def test_ids_as_floats_and_values_that_are_null_are_read(tmp_path):
    entry = {"image_id": 3.0, "category_id": 1.0, "bbox": [1, 2, 3, 4], "area": None, "iscrowd": None}
    images = [{"id": 3.0, "file_name": "val\\a.jpg", "width": None, "height": 0}]
    content = read(tmp_path, {"images": images, "annotations": [entry], "categories": [{"id": 1.0, "name": "cat"}]})
    assert content["images"] == [{"id": 3, "file_name": "val/a.jpg", "width": None, "height": None}]
    (annotation,) = restricted(content, content["images"])["annotations"]
    assert annotation == {"id": 1, "image_id": 3, "category_id": 1, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0}
    assert [type(annotation[key]) for key in ("image_id", "category_id", "iscrowd")] == [int] * 3


@pytest.mark.parametrize("side", [0, -1, 640.5, "640", True, float("nan"), 10**400])
def test_a_side_that_is_none_is_read_from_the_image(tmp_path, side):
    content = read(
        tmp_path, changed(images=[{"id": n, "file_name": str(n), "width": side, "height": 480.0} for n in (3, 5)])
    )
    assert [(entry["width"], entry["height"]) for entry in content["images"]] == [(None, 480)] * 2


def test_an_area_below_zero_stays(tmp_path):
    content = read(tmp_path, changed(annotations=[GOOD["annotations"][0] | {"area": -1, "iscrowd": True}]))
    assert [(entry["area"], entry["iscrowd"]) for entry in content["annotations"]] == [(-1.0, 1)]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just([1, 2, 3, 4]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.data())
def test_no_value_at_any_place_ends_in_another_error(data):
    content = copy.deepcopy(GOOD)
    place = data.draw(st.sampled_from([*content]))
    entry = data.draw(st.sampled_from(content[place]))
    key = data.draw(st.sampled_from([*entry, "area", "iscrowd", "width", "height", "segmentation", None]))
    if key is None:
        content[place] = data.draw(JSON)
    else:
        entry[key] = data.draw(JSON)
    text = bytearray(json.dumps(content).encode())
    if data.draw(st.integers(0, 4)) == 0:
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.NamedTemporaryFile(suffix=".json") as file, contextlib.suppress(DataError):
        file.write(text)
        file.flush()
        read = read_coco(Path(file.name))
        labels = restricted(read, read["images"])
        assert json.dumps(labels, allow_nan=False).encode()
        assert all(type(entry["bbox"][2] * entry["bbox"][3]) is float for entry in labels["annotations"])


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
    twice = {"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "./a.jpg"}]}
    with pytest.raises(DataError, match=r"image '/d/a.jpg' is there 2 times in 'i.json'"):
        match_files(twice, [Path("/d/a.jpg")], "i.json")
    with pytest.raises(DataError, match=r"images '/d/a.jpg' and '/e/a.jpg' are both 'a.jpg' in 'i.json'"):
        match_files(GOOD, [Path("/d/a.jpg"), Path("/e/a.jpg")], "i.json")
