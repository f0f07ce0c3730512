"""What a data set is once it is loaded, whatever files it came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ImageRecord:
    """One image of a data set.

    Attributes:
        path: The image file.
        image_id: The image's id in the annotations.
        width: Width in pixels after the file's orientation tag is applied.
        height: Height in pixels, likewise.
    """

    path: Path
    image_id: int
    width: int
    height: int


@dataclass(frozen=True)
class DetectionDataset:
    """Images with their boxes.

    Attributes:
        images: The images, sorted by path, so that the result is independent of the order of a list file.
        names: Class index to class name. From a COCO json, the index counts the categories by rising id.
        annotations: COCO annotations as a dict with ``images``, ``annotations`` and ``categories``; boxes are
            x, y, width, height in pixels, and every annotation has ``id`` (from 1), ``area`` and ``iscrowd``.
        labels_source: Which labels these are, for the result: the json's path, or the YOLO label files.
        kpt_shape: Keypoints per object and numbers per keypoint (x, y, visibility), of a data set for poses.
        by_index: The category ids are class indices of the model, as in YOLO label files; else categories and classes are
            the same where their names are.
    """

    images: tuple[ImageRecord, ...]
    names: dict[int, str]
    annotations: dict[str, Any] = field(repr=False, compare=False)
    labels_source: str = ""
    kpt_shape: tuple[int, int] | None = None
    by_index: bool = False
