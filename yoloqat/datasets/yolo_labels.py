"""YOLO label files: one text file per image, one object a line, as fractions of the image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from yoloqat.datasets.records import ImageRecord
from yoloqat.datasets.splits import read_text
from yoloqat.errors import DataError

TOLERANCE = 0.01
"""How far a coordinate may lie outside [0, 1]; rounding in other tools gives a little."""


def label_path(image: Path) -> Path:
    """Return the label file of an image: the last ``images`` in its path becomes ``labels``, the extension ``.txt``."""
    parts = list(image.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def parse_label(line: str, kpt_shape: tuple[int, int] | None = None) -> tuple[int, tuple[float, float, float, float]]:
    """Read one line ``class x y width height`` or ``class x1 y1 x2 y2 x3 y3 ...`` (a polygon, of which the box counts).

    Args:
        line: The line.
        kpt_shape: Keypoints per object and numbers per keypoint of a data set for poses, whose lines go on after the box.

    Returns:
        Class index, and centre x, centre y, width and height as fractions.

    Raises:
        ValueError: The line is neither, or a coordinate lies outside [0, 1].
    """
    fields = line.split()
    values = [float(field) for field in fields[1:]]
    if kpt_shape is not None and len(values) == 4 + kpt_shape[0] * kpt_shape[1]:
        values = values[:4]
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        raise ValueError(f"{len(fields)} fields")
    if not all(-TOLERANCE <= value <= 1 + TOLERANCE for value in values):
        raise ValueError("coordinates outside 0 to 1")
    if len(values) == 4:
        if min(values[2:]) < 0:
            raise ValueError("a negative side")
        return int(fields[0]), (values[0], values[1], values[2], values[3])
    xs, ys = values[0::2], values[1::2]
    centre = ((min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2)
    return int(fields[0]), (*centre, max(xs) - min(xs), max(ys) - min(ys))


def _objects(
    path: Path, classes: int, kpt_shape: tuple[int, int] | None
) -> list[tuple[int, tuple[float, float, float, float]]]:
    # a repeated line is one object: label tools write some twice
    lines = dict.fromkeys(line.strip() for line in read_text(path, "label file").splitlines())
    found = []
    for line in filter(None, lines):
        try:
            index, box = parse_label(line, kpt_shape)
            if not 0 <= index < classes:
                raise ValueError(f"class {index} of {classes}")
        except ValueError as error:
            raise DataError(
                f"label file '{path}' has the line '{line:.80}' ({error})",
                expected="'class x y width height' with fractions of the image",
                mend="mend the line",
            ) from error
        found.append((index, box))
    return found


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
        path = label_path(image.path)
        for index, (x, y, width, height) in _objects(path, len(names), kpt_shape) if path.is_file() else []:
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
            mend="add the labels, or name a COCO json with --images and --annotations",
        )
    entries = [
        {"id": image.image_id, "file_name": image.path.name, "width": image.width, "height": image.height}
        for image in images
    ]
    categories = [{"id": index, "name": name} for index, name in names.items()]
    return {"images": entries, "annotations": annotations, "categories": categories}
