from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from yoloqat.cli import main


@pytest.mark.real
@pytest.mark.slow
def test_yolov5_learns_from_unlabelled_images(real_dir: Path, tmp_path: Path) -> None:
    """The original YOLOv5: its training branch is not needed."""
    names = [line.strip() for line in (real_dir / "coco" / "train2017.txt").read_text().splitlines()][:4]
    (tmp_path / "images").mkdir()
    for name in names:
        (tmp_path / "images" / Path(name).name).symlink_to(real_dir / "coco" / name)
    source = json.loads((real_dir / "coco" / "annotations" / "instances_val2017_exact.json").read_text())
    content = source | {"images": source["images"][:4]}
    kept = {image["id"] for image in content["images"]}
    content["annotations"] = [box for box in source["annotations"] if box["image_id"] in kept]
    (tmp_path / "labels.json").write_text(json.dumps(content))
    scored = ["--images", str(real_dir / "coco" / "images" / "val2017"), "--annotations", str(tmp_path / "labels.json")]
    common = ["--imgsz", "96", "--threads", "1"]
    images = str(tmp_path / "images")
    calibrated = tmp_path / "calibrated"
    line = ["calibrate", str(real_dir / "weights" / "yolov5s.pt"), "--calib-images-dir", images, "--calib-images", "4"]
    assert main([*line, *common, "--no-eval", "--out", str(calibrated)]) == 0
    line = [
        "finetune",
        str(calibrated / "model.safetensors"),
        *scored,
        "--supervise",
        "6",
        "--train-images-dir",
        images,
    ]
    assert main([*line, *common, "--epochs", "3", "--lr0", "1e-5", "--out", str(tmp_path / "tuned")]) == 0
    epochs = json.loads((tmp_path / "tuned" / "result.json").read_text())["results"]["epochs"]
    assert np.all(np.diff([row["loss"] for row in epochs]) < 0)
