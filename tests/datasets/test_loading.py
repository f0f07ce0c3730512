from __future__ import annotations

import json
import re

import pytest

from yoloqat.datasets import load_dataset
from yoloqat.errors import DataError


def coco(files, **changes):
    content = {
        "images": [{"id": 10 + number, "file_name": name} for number, name in enumerate(files)],
        "annotations": [{"id": 1, "image_id": 10, "category_id": 9, "bbox": [0, 0, 4, 4], "area": 3.0, "iscrowd": 0}],
        "categories": [{"id": 9, "name": "dog"}, {"id": 4, "name": "cat"}],
    }
    return content | changes


def test_a_yaml_with_label_files(yolo_yaml):
    dataset = load_dataset(yolo_yaml)
    assert [(image.path.name, image.width, image.height) for image in dataset.images] == [
        ("0.png", 10, 20),
        ("1.png", 11, 20),
        ("2.png", 12, 20),
    ]
    assert dataset.names == {0: "cat", 1: "dog"}
    assert [entry["image_id"] for entry in dataset.annotations["annotations"]] == [1, 1, 3]
    assert dataset.labels_source == f"YOLO label files of '{yolo_yaml}'"
    assert dataset.by_index


def test_classes_of_one_name_are_told_apart_in_the_labels(yolo_yaml):
    yolo_yaml.write_text(yolo_yaml.read_text().replace("dog", "cat"))
    dataset = load_dataset(yolo_yaml)
    assert dataset.names == {0: "cat", 1: "cat"}
    assert [entry["name"] for entry in dataset.annotations["categories"]] == ["cat (0)", "cat (1)"]


def test_a_root_category_of_the_name_of_a_class_is_left_out(tmp_path, image_at):
    image_at(tmp_path / "a.png")
    file = tmp_path / "x.json"
    file.write_text(json.dumps(coco(["a.png"], categories=[{"id": 0, "name": "dog"}, {"id": 9, "name": "dog"}])))
    dataset = load_dataset(images=tmp_path, annotations=file)
    assert (dataset.names, [entry["id"] for entry in dataset.annotations["categories"]]) == ({0: "dog"}, [9])
    assert not dataset.by_index


def test_a_json_named_for_the_val_list_wins_over_label_files(yolo_yaml):
    (yolo_yaml.parent / "annotations").mkdir()
    file = yolo_yaml.parent / "annotations" / "instances_val.json"
    file.write_text(json.dumps(coco(["0.png", "1.png", "2.png", "unlisted.png"])))
    dataset = load_dataset(yolo_yaml)
    assert dataset.labels_source == str(file)
    assert [image.image_id for image in dataset.images] == [10, 11, 12]
    assert [entry["id"] for entry in dataset.annotations["images"]] == [10, 11, 12]
    assert dataset.annotations["annotations"][0]["area"] == 3.0
    assert dataset.names == {0: "cat", 1: "dog"}


def test_a_json_under_the_data_sets_path_is_found(yolo_yaml):
    root = yolo_yaml.parent
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_val.json").write_text(json.dumps(coco(["0.png", "1.png", "2.png"])))
    (root / "elsewhere").mkdir()
    moved = root / "elsewhere" / "data.yaml"
    moved.write_text(f"path: {root}\nval: images/val\nnames: [cat, dog]\n")
    assert load_dataset(moved).labels_source.endswith("instances_val.json")


def test_a_coco_pair(tmp_path, image_at):
    image_at(tmp_path / "i" / "b.png", width=5, height=7)
    image_at(tmp_path / "i" / "a.png", width=6, height=8)
    file = tmp_path / "x.json"
    file.write_text(json.dumps(coco(["b.png", "a.png"])))
    dataset = load_dataset(images=tmp_path / "i", annotations=file)
    assert [(image.path.name, image.image_id, image.width) for image in dataset.images] == [
        ("a.png", 11, 6),
        ("b.png", 10, 5),
    ]


def test_a_size_in_the_json_is_taken_without_opening_the_image(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    file = tmp_path / "x.json"
    file.write_text(json.dumps(coco([], images=[{"id": 10, "file_name": "a.png", "width": 640, "height": 480}])))
    assert load_dataset(images=tmp_path, annotations=file).images[0].width == 640


def test_a_pair_with_a_missing_directory_or_image_is_told(tmp_path):
    file = tmp_path / "x.json"
    file.write_text(json.dumps(coco(["a.png"])))
    with pytest.raises(DataError, match=re.escape(f"image directory '{tmp_path / 'no'}' does not exist")):
        load_dataset(images=tmp_path / "no", annotations=file)
    with pytest.raises(DataError, match=re.escape(f"image directory '{file}' is no directory")):
        load_dataset(images=file, annotations=file)
    with pytest.raises(DataError, match=re.escape(f"annotation file '{tmp_path}' cannot be read (Is a directory)")):
        load_dataset(images=tmp_path, annotations=tmp_path)
    with pytest.raises(DataError, match=r"x\.\.\. does not exist; expected a directory of images"):
        load_dataset(images=tmp_path / ("x" * 5000), annotations=file)
    with pytest.raises(
        DataError, match=re.escape(f"image '{tmp_path / 'a.png'}' of annotation file '{file}' does not")
    ):
        load_dataset(images=tmp_path, annotations=file)


def test_a_json_with_no_box_on_the_listed_images_is_told(yolo_yaml):
    (yolo_yaml.parent / "annotations").mkdir()
    file = yolo_yaml.parent / "annotations" / "instances_val.json"
    file.write_text(json.dumps(coco(["unlisted.png", "0.png", "1.png", "2.png"])))
    with pytest.raises(DataError, match=re.escape(f"annotation file '{file}' has no annotations for the 3 images")):
        load_dataset(yolo_yaml)


def test_a_yaml_without_val_is_told(tmp_path):
    file = tmp_path / "d.yaml"
    file.write_text("train: x\nnames: [a]\n")
    with pytest.raises(DataError, match=re.escape(f"data set '{file}' has no val split")):
        load_dataset(file)


def test_exactly_one_kind_of_source_is_taken(yolo_yaml, tmp_path):
    with pytest.raises(DataError, match="the data set is not named"):
        load_dataset()
    with pytest.raises(DataError, match=re.escape(f"the data set is data {yolo_yaml}, images {tmp_path}")):
        load_dataset(yolo_yaml, images=tmp_path)
    with pytest.raises(DataError, match=re.escape(f"the data set is images {tmp_path}; expected")):
        load_dataset(images=tmp_path)


@pytest.mark.real
def test_the_real_yaml_is_scored_against_its_json(real_dir):
    dataset = load_dataset(real_dir / "coco" / "coco_val.yaml")
    assert len(dataset.images) == 220
    assert dataset.labels_source.endswith("instances_val2017_exact.json")
    assert any(entry["iscrowd"] for entry in dataset.annotations["annotations"])


@pytest.mark.parametrize("labels", ["txt", "json", "pair"])
def test_images_that_do_not_decode_are_left_out_with_their_labels_where_asked(yolo_yaml, labels):
    root = yolo_yaml.parent
    bad = root / "images" / "val" / "0.png"
    arguments = {"data": yolo_yaml}
    if labels != "txt":
        file = root / "annotations" / "instances_val.json"
        file.parent.mkdir()
        boxes = [{"image_id": n, "category_id": 4, "bbox": [0, 0, 4, 4]} for n in (10, 11)]
        file.write_text(json.dumps(coco(["0.png", "1.png", "2.png"], annotations=boxes)))
        if labels == "pair":
            arguments = {"images": root / "images" / "val", "annotations": file}
    bad.write_bytes(bad.read_bytes()[:45])
    skipped = []
    dataset = load_dataset(**arguments, skipped=skipped)
    assert skipped == [bad]
    assert [image.path.name for image in dataset.images] == ["1.png", "2.png"]
    kept = {image.image_id for image in dataset.images}
    assert {entry["image_id"] for entry in dataset.annotations["annotations"]} <= kept
    assert {entry["id"] for entry in dataset.annotations["images"]} == kept


def test_a_data_set_of_which_nothing_decodes_is_told(yolo_yaml):
    for path in (yolo_yaml.parent / "images" / "val").iterdir():
        path.write_bytes(b"")
    first = yolo_yaml.parent / "images" / "val" / "0.png"
    with pytest.raises(DataError, match=re.escape(f"none of 3 images decodes, e.g. not '{first}'")):
        load_dataset(yolo_yaml, skipped=[])
