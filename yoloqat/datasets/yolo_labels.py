"""YOLO label files: one text file per image, one object a line, as fractions of the image."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yoloqat.datasets.records import ImageRecord
from yoloqat.datasets.splits import read_text
from yoloqat.errors import DataError

TOLERANCE = 0.01
"""How far a coordinate may lie outside [0, 1]; rounding in other tools gives a little."""


MAX_BYTES = 1 << 26
"""The most bytes of a label file: a million objects."""


def label_path(image: Path) -> Path:
    """Return the label file of an image: the last ``images`` in its path becomes ``labels``, the extension ``.txt``."""
    parts = list(image.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def label_rows(
    path: Path, classes: int, kpt_shape: tuple[int, int] | None = None
) -> list[tuple[int, tuple[float, ...]]]:
    """Return the objects of a label file, one line each: class index, and the numbers behind it.

    As Ultralytics reads them: a class may be written ``6.0``; lines that are equal as numbers in single precision are one
    object, however they are written, because label tools write some twice. No file means no object.

    Args:
        path: The label file.
        classes: How many classes there are.
        kpt_shape: Keypoints per object and numbers per keypoint, of a data set for poses.

    Raises:
        DataError: The file cannot be read, or a line is malformed.
    """
    if not path.is_symlink() and not path.exists():
        return []
    if not path.is_file() or path.stat().st_size > MAX_BYTES:
        raise DataError(
            f"label file '{path}' is {'larger than any' if path.is_file() else 'no regular file'}",
            expected=f"a text file of at most {MAX_BYTES} bytes, or none for an image without objects",
            hint="put the labels in its place, or remove it",
        )
    rows: dict[tuple[float, ...], tuple[int, tuple[float, ...]]] = {}
    for line in read_text(path, "label file").splitlines():
        if not line.strip():
            continue
        try:
            index, numbers = _parsed(line, classes)
            label_box(numbers, kpt_shape)
        except ValueError as error:
            raise DataError(
                f"label file '{path}' has the line '{line.strip():.80}' ({error!s:.80})",
                expected="'class x y width height' with fractions of the image",
                hint="fix the line",
            ) from error
        rows.setdefault((index, *array("f", numbers)), (index, numbers))
    return list(rows.values())


def _parsed(line: str, classes: int) -> tuple[int, tuple[float, ...]]:
    index, *numbers = map(float, line.split())
    if not index.is_integer():
        raise ValueError(f"class {index} is no whole number")
    if not 0 <= index < classes:
        raise ValueError(f"class {int(index)} of {classes}")
    return int(index), tuple(numbers)


def label_box(numbers: Sequence[float], kpt_shape: tuple[int, int] | None = None) -> tuple[float, float, float, float]:
    """Return the box of an object: ``x y width height``, the same before keypoints, or that around a polygon ``x1 y1 x2 y2 ...``.

    Args:
        numbers: What stands behind the class, as fractions of the image.
        kpt_shape: Keypoints per object and numbers per keypoint of a data set for poses, whose lines go on after the box.

    Returns:
        Centre x, centre y, width and height as fractions of the image.

    Raises:
        ValueError: They are of neither form, or the box or a keypoint lies outside [0, 1].
    """
    size = 0 if kpt_shape is None else kpt_shape[0] * kpt_shape[1]
    within = list(numbers[:4])
    if kpt_shape is not None and len(numbers) == 4 + size:
        points = numbers[4:]
        within += [x for start in range(0, size, kpt_shape[1]) for x in points[start : start + 2]]
    elif len(numbers) >= 6 and len(numbers) % 2 == 0:
        xs, ys = numbers[0::2], numbers[1::2]
        within = [(min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2, max(xs) - min(xs), max(ys) - min(ys)]
    elif len(numbers) != 4:
        raise ValueError(f"{len(numbers) + 1} fields")
    if not all(-TOLERANCE <= value <= 1 + TOLERANCE for value in within) or not all(map(math.isfinite, numbers)):
        raise ValueError("coordinates outside 0 to 1")
    if min(within[2:4]) < 0:
        raise ValueError("a negative side")
    return within[0], within[1], within[2], within[3]


def read_labels(
    images: list[ImageRecord], names: dict[int, str], kpt_shape: tuple[int, int] | None = None
) -> dict[str, Any]:
    """Return the label files of ``images`` as COCO annotations whose category ids are the class indices.

    An image without a label file has no objects. The area of an object is that of its box.

    Args:
        images: The images with their sizes.
        names: Class index to class name.
        kpt_shape: Keypoints per object and numbers per keypoint, of a data set for poses.

    Raises:
        DataError: A line is malformed, or not one image has an object.
    """
    annotations: list[dict[str, Any]] = []
    for image in images:
        for index, numbers in label_rows(label_path(image.path), len(names), kpt_shape):
            x, y, width, height = label_box(numbers, kpt_shape)
            w, h = width * image.width, height * image.height
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image.image_id,
                    "category_id": index,
                    "bbox": [x * image.width - w / 2, y * image.height - h / 2, w, h],
                    "area": w * h,
                    "iscrowd": 0,
                }
            )
    if not annotations:
        raise DataError(
            f"none of {len(images)} images has a label, e.g. not '{label_path(images[0].path)}'",
            expected="YOLO label files, or annotations/instances_<val list>.json beside the data set's YAML",
            hint="add the labels, or name a COCO json with `images` and `annotations`",
        )
    entries = [
        {"id": image.image_id, "file_name": image.path.name, "width": image.width, "height": image.height}
        for image in images
    ]
    categories = [{"id": index, "name": name} for index, name in names.items()]
    return {"images": entries, "annotations": annotations, "categories": categories}
