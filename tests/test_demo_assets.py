"""The embedded detector and data set: they are small, agree with each other, and come out of their scripts again."""

from __future__ import annotations

import importlib
import json
from functools import cache
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch
import yaml

from yoloqat.detectors.ultralytics_import import ultralytics_module

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "data"
WEIGHTS = ROOT / "weights" / "demo.pt"
IMAGES = {"train": 256, "val": 240}
SPLITS = tuple(IMAGES)
SHIPPED_BYTES = 12_000_000


@cache
def coco(split: str) -> dict:
    return json.loads((DATA / "annotations" / f"instances_{split}.json").read_text(encoding="utf-8"))


def names() -> list[str]:
    found = yaml.safe_load((DATA / "demo.yaml").read_text(encoding="utf-8"))["names"]
    return [found[index] for index in range(len(found))]


@pytest.fixture
def maker(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("make_demo_data")


def test_weights_and_data_stay_small():
    files = [path for folder in (DATA, WEIGHTS.parent) for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < SHIPPED_BYTES


@pytest.mark.parametrize("split", SPLITS)
def test_each_image_has_its_label_file_and_its_entry(split):
    images = sorted(path.stem for path in (DATA / "images" / split).glob("*.jpg"))
    assert len(images) == IMAGES[split]
    assert images == sorted(path.stem for path in (DATA / "labels" / split).glob("*.txt"))
    assert images == sorted(Path(entry["file_name"]).stem for entry in coco(split)["images"])


@pytest.mark.parametrize("split", SPLITS)
def test_every_image_decodes_at_the_size_its_json_states(split):
    for entry in coco(split)["images"]:
        pixels = cv2.imread(str(DATA / "images" / split / entry["file_name"]))
        assert pixels is not None, entry["file_name"]
        assert pixels.shape == (entry["height"], entry["width"], 3), entry["file_name"]
        assert max(pixels.shape) == 320


@pytest.mark.parametrize("split", SPLITS)
def test_json_and_txt_hold_the_same_boxes(split):
    content = coco(split)
    boxes: dict[int, list[list[float]]] = {entry["id"]: [] for entry in content["images"]}
    for item in content["annotations"]:
        boxes[item["image_id"]].append([item["category_id"] - 1, *item["bbox"]])
    for entry in content["images"]:
        width, height = entry["width"], entry["height"]
        text = (DATA / "labels" / split / entry["file_name"]).with_suffix(".txt").read_text(encoding="utf-8")
        rows = np.array([line.split() for line in text.splitlines()], np.float64).reshape(-1, 5)
        centre, size = rows[:, 1:3] * (width, height), rows[:, 3:] * (width, height)
        seen = np.hstack([rows[:, :1], centre - size / 2, size])
        np.testing.assert_allclose(seen, np.array(boxes[entry["id"]]).reshape(-1, 5), atol=1e-3)


@pytest.mark.parametrize("split", SPLITS)
def test_boxes_lie_in_their_image_and_hold_their_area(split):
    sizes = {entry["id"]: (entry["width"], entry["height"]) for entry in coco(split)["images"]}
    annotations = coco(split)["annotations"]
    assert len({item["id"] for item in annotations}) == len(annotations)
    for item in annotations:
        left, top, width, height = item["bbox"]
        assert min(left, top) >= 0
        assert left + width <= sizes[item["image_id"]][0]
        assert top + height <= sizes[item["image_id"]][1]
        assert 0 < item["area"] <= width * height
        assert item["iscrowd"] == 0


@pytest.mark.parametrize("split", SPLITS)
def test_every_class_and_every_coco_size_occurs_often(split):
    annotations = coco(split)["annotations"]
    classes = np.bincount([item["category_id"] for item in annotations], minlength=len(names()) + 1)
    assert classes[0] == 0
    assert classes[1:].min() >= 100
    areas = np.array([item["area"] for item in annotations])
    sizes = np.histogram(areas, [0, 32**2, 96**2, np.inf])[0]
    assert sizes.min() >= 40


def test_the_splits_share_no_image():
    train, val = ({path.read_bytes() for path in (DATA / "images" / split).glob("*.jpg")} for split in SPLITS)
    assert not train & val


def test_yaml_json_and_checkpoint_name_the_same_classes():
    model = ultralytics_module("nn.tasks").torch_safe_load(WEIGHTS, safe_only=True)[0]["model"]
    assert [model.names[index] for index in range(len(model.names))] == names()
    for split in SPLITS:
        assert [(entry["id"], entry["name"]) for entry in coco(split)["categories"]] == list(enumerate(names(), 1))


def test_the_checkpoint_is_plain_half_precision_and_rebuilds_from_its_own_description():
    tasks = ultralytics_module("nn.tasks")
    checkpoint = tasks.torch_safe_load(WEIGHTS, safe_only=True)[0]
    model = checkpoint["model"]
    assert checkpoint["ema"] is None
    assert checkpoint["optimizer"] is None
    assert {value.dtype for value in model.parameters()} == {torch.float16}
    rebuilt = tasks.DetectionModel(model.yaml, ch=3, nc=len(names()), verbose=False)
    rebuilt.load_state_dict(model.state_dict(), strict=True)


@pytest.mark.parametrize("split", SPLITS)
def test_rendering_again_gives_the_same_pixels(maker, split):
    first, again = (maker.render(maker.SEED, maker.SPLITS[split], 0) for _ in range(2))
    np.testing.assert_array_equal(first.pixels, again.pixels)
    assert first.labels == again.labels


@pytest.mark.parametrize("split", SPLITS)
def test_the_shipped_images_are_what_the_script_renders(maker, split):
    for index in range(3):
        scene = maker.render(maker.SEED, maker.SPLITS[split], index)
        name = f"{index:04d}"
        packed = cv2.imencode(".jpg", scene.pixels, [cv2.IMWRITE_JPEG_QUALITY, maker.JPEG_QUALITY])[1]
        rendered = cv2.imdecode(packed, cv2.IMREAD_COLOR).astype(np.float64)
        shipped = cv2.imread(str(DATA / "images" / split / f"{name}.jpg")).astype(np.float64)
        # Another build of OpenCV may round single pixels otherwise; another scene differs by tens of levels.
        assert np.abs(rendered - shipped).mean() < 0.5
        text = (DATA / "labels" / split / f"{name}.txt").read_text(encoding="utf-8")
        assert text.splitlines() == maker.yolo_lines(scene)


def test_another_seed_is_another_scene(maker):
    first, other = (maker.render(maker.SEED + step, 0, 0) for step in range(2))
    assert first.pixels.shape != other.pixels.shape or (first.pixels != other.pixels).mean() > 0.5
