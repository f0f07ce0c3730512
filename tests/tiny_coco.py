"""Archives like COCO's, a few kilobytes large."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile

import cv2
import numpy as np

from yoloqat.datasets.download_source import Archive, Part, Source

ANNOTATIONS, VAL, TRAIN = "annotations/a.zip", "zips/val2017.zip", "zips/train2017.zip"


def zipped(files: dict[str, bytes]) -> bytes:
    """Return a zip archive of ``files``."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _images(split: str, first: int, count: int) -> dict[str, bytes]:
    pixels = np.random.default_rng(first).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    content = cv2.imencode(".jpg", pixels)[1].tobytes()
    return {f"{split}/": b""} | {f"{split}/{number:012}.jpg": content for number in range(first, first + count)}


def _instances(first: int, count: int) -> bytes:
    numbers = range(first, first + count)
    images = [{"id": n, "file_name": f"{n:012}.jpg", "width": 32, "height": 24} for n in numbers]
    boxes = [
        {"id": n, "image_id": n, "category_id": 3, "bbox": [1, 2, 8, 9], "area": 60.5, "iscrowd": 0} for n in numbers
    ]
    categories = [{"id": 3, "name": "traffic light"}, {"id": 1, "name": "person"}]
    return json.dumps({"images": images, "annotations": boxes, "categories": categories}).encode()


def tiny_archives() -> dict[str, bytes]:
    """Return address to content of three archives: three validation and two training images."""
    labels = {
        "annotations/captions_val2017.json": b"{}",
        "annotations/instances_val2017.json": _instances(1, 3),
        "annotations/instances_train2017.json": _instances(10, 2),
    }
    return {
        ANNOTATIONS: zipped(labels),
        VAL: zipped(_images("val2017", 1, 3)),
        TRAIN: zipped(_images("train2017", 10, 2)),
    }


def tiny_source(base: str, contents: dict[str, bytes]) -> Source:
    """Return what to fetch from ``base``, without a pause between tries."""

    def archive(address: str, *parts: Part) -> Archive:
        content = contents[address]
        return Archive(address, hashlib.md5(content, usedforsecurity=False).hexdigest(), len(content), parts)

    def labels(split: str) -> Part:
        name = f"annotations/instances_{split}2017.json"
        return Part(name, name, 1, 1000, split)

    return Source(
        base,
        (
            archive(ANNOTATIONS, labels("val"), labels("train")),
            archive(VAL, Part("val2017/", "images/val2017", 3, 3000, "val")),
            archive(TRAIN, Part("train2017/", "images/train2017", 2, 2000, "train")),
        ),
        pauses=(0.0, 0.0),
    )
