"""The letterbox, against what the validator of Ultralytics makes of the same files."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from yoloqat.config.sizes import sides
from yoloqat.datasets import ImageRecord, plan_batches, read_batches
from yoloqat.datasets.images import image_size
from yoloqat.detectors.ultralytics_import import ultralytics_module


def assert_equal_batches(files, *, imgsz, batch, rect, channels=3):
    theirs = ultralytics_module("data.dataset").YOLODataset(
        img_path=str(files[0].parent),
        data={"names": {0: "cat"}, "channels": channels, "nc": 1},
        imgsz=imgsz,
        batch_size=batch,
        augment=False,
        rect=rect,
        stride=32,
        pad=0.5 if rect else 0.0,
    )
    boxes = np.random.default_rng(0).uniform(-20, max(sides(imgsz)), (50, 4)).astype(np.float32)
    scale_boxes = ultralytics_module("utils.ops").scale_boxes
    index_of = {file: index for index, file in enumerate(theirs.im_files)}
    records = [ImageRecord(file, number, *image_size(file)) for number, file in enumerate(sorted(files), start=1)]
    seen = 0
    for ours in read_batches(plan_batches(records, imgsz, batch, rect=rect, channels=channels)):
        for image, record, geometry in zip(ours.images, ours.records, ours.geometries, strict=True):
            sample = theirs[index_of[str(record.path)]]
            np.testing.assert_array_equal(image, (sample["img"].float() / 255).numpy())
            expected = scale_boxes(
                sample["img"].shape[1:], torch.from_numpy(boxes.copy()), sample["ori_shape"], sample["ratio_pad"]
            )
            np.testing.assert_allclose(geometry.to_original(boxes), expected.numpy(), rtol=1e-6, atol=1e-4)
            seen += 1
    assert seen == len(files)


@pytest.mark.parametrize("rect", [False, True])
def test_synthetic_images_of_awkward_shapes(tmp_path, image_at, rect):
    shapes = [(10, 50), (50, 11), (63, 64), (64, 64), (65, 33), (200, 131), (97, 301), (640, 427), (500, 10), (12, 13)]
    files = [image_at(tmp_path / "images" / f"{w}x{h}.png", width=w, height=h) for w, h in shapes]
    (tmp_path / "labels").mkdir()
    assert_equal_batches(files, imgsz=64, batch=2, rect=rect)


@pytest.mark.parametrize("imgsz", [(32, 96), (96, 32), (64, 96)])
@pytest.mark.parametrize("channels", [1, 3])
def test_canvases_that_are_no_squares(tmp_path, image_at, imgsz, channels):
    shapes = [(10, 50), (50, 11), (63, 64), (96, 96), (96, 32), (65, 33), (200, 131), (97, 301), (500, 10), (12, 13)]
    files = [image_at(tmp_path / "images" / f"{w}x{h}.png", width=w, height=h) for w, h in shapes]
    (tmp_path / "labels").mkdir()
    assert_equal_batches(files, imgsz=imgsz, batch=2, rect=False, channels=channels)


@pytest.mark.real
@pytest.mark.parametrize("rect", [False, True])
def test_real_images(real_dir, tmp_path, rect):
    files = []
    (tmp_path / "labels").mkdir()
    (tmp_path / "images").mkdir()
    for source in sorted((real_dir / "coco" / "images" / "val2017").glob("*.jpg"))[:8]:
        files.append(tmp_path / "images" / source.name)
        shutil.copy(source, files[-1])
    assert_equal_batches(files, imgsz=640, batch=4, rect=rect)
