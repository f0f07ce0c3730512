"""The official YOLOv5s on COCO images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from yoloqat.cli import main
from yoloqat.config import QuantConfig
from yoloqat.detectors import load_detector
from yoloqat.detectors.anchor import is_original

IMAGES, IMGSZ = 16, 320
pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def weights(real_dir: Path) -> Path:
    return real_dir / "weights" / "yolov5s.pt"


def test_the_official_checkpoint_is_loaded_and_quantized(weights):
    detector = load_detector(weights)
    assert (detector.family, detector.imgsz, detector.info.stride) == ("yolov5", 640, 32)
    assert (detector.info.classes, detector.info.names[0], detector.info.names[79]) == (80, "person", "toothbrush")
    assert sum(value.numel() for value in detector.module.parameters()) == 7_225_885
    assert detector.module.head.anchors[2, 2].tolist() == [373, 326]
    assert len(detector.quantize(QuantConfig())) == 57


@pytest.mark.parametrize("name", ["yolov8n", "yolov8s", "yolov8n-seg", "yolo11n-seg"])
def test_ultralytics_checkpoints_are_none_of_the_original(real_dir, name):
    assert not is_original(real_dir / "weights" / f"{name}.pt")


def test_it_finds_what_is_there(weights, real_dir, tmp_path):
    coco = real_dir / "coco"
    content = json.loads((coco / "annotations" / "instances_val2017_exact.json").read_text())
    images = sorted(content["images"], key=lambda entry: entry["id"])[:IMAGES]
    known = {entry["id"] for entry in images}
    annotations = [entry for entry in content["annotations"] if entry["image_id"] in known]
    (tmp_path / "pair.json").write_text(json.dumps({**content, "images": images, "annotations": annotations}))
    pair = ["--images", str(coco / "images" / "val2017"), "--annotations", str(tmp_path / "pair.json")]
    arguments = ["--imgsz", str(IMGSZ), "--rect", "--nms-iou", "0.65", "--threads", "1", "--out", str(tmp_path / "out")]
    assert main(["eval", str(weights), *pair, *arguments]) == 0
    results = json.loads((tmp_path / "out" / "result.json").read_text())["results"]
    assert results["map50_95"] > 0.3
