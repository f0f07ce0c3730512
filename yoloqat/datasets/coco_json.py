"""A COCO annotation file, checked and cut down to the images that are scored."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from yoloqat.datasets.splits import read_text
from yoloqat.errors import DataError


def read_coco(path: Path) -> dict[str, Any]:
    """Read a COCO detection json.

    Returns:
        The dict with ``images``, ``annotations`` and ``categories``.

    Raises:
        DataError: The file is missing, is no COCO json, holds no images, annotations or categories, or is inconsistent.
    """
    try:
        content = json.loads(read_text(path, "annotation file"))
    except json.JSONDecodeError as error:
        raise DataError(
            f"annotation file '{path}' is not JSON ({error})", expected="a COCO json", mend="check the file"
        ) from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list) or not content[key]:
            raise DataError(
                f"annotation file '{path}' has no {key}",
                expected="a COCO json with images, annotations and categories",
                mend="name the file with the instances' boxes",
            )
    _check_entries(path, content)
    return {key: content[key] for key in ("images", "annotations", "categories")}


_REQUIRED = {
    "images": {"id": int, "file_name": str},
    "annotations": {"image_id": int, "category_id": int, "bbox": list},
    "categories": {"id": int, "name": str},
}


def _check_entries(path: Path, content: dict[str, Any]) -> None:
    for key, required in _REQUIRED.items():
        for entry in content[key]:
            wrong = [name for name, kind in required.items() if not _has(entry, name, kind)]
            if wrong:
                raise _unfit(path, f"{key} holds an entry without a valid {wrong[0]}", entry)
    for key in ("images", "categories"):
        twice = [number for number, count in Counter(entry["id"] for entry in content[key]).items() if count > 1]
        if twice:
            raise _unfit(path, f"{key} holds an id more than once", twice[0])
    images, categories = ({entry["id"] for entry in content[key]} for key in ("images", "categories"))
    for entry in content["annotations"]:
        if entry["image_id"] not in images or entry["category_id"] not in categories:
            raise _unfit(path, "annotations holds an entry of an unknown image or category", entry)


def _has(entry: Any, name: str, kind: type) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get(name), kind):
        return False
    return name != "bbox" or _is_box(entry["bbox"])


def _is_box(box: list[Any]) -> bool:
    return (
        len(box) == 4
        and all(isinstance(value, int | float) and math.isfinite(value) for value in box)
        and min(box[2:]) >= 0
    )


def _unfit(path: Path, what: str, value: Any) -> DataError:
    if isinstance(value, dict):
        value = {key: entry for key, entry in value.items() if key != "segmentation"}
    return DataError(
        f"annotation file '{path}': {what}: {value!r:.200}", expected="a valid COCO json", mend="mend the entry"
    )


def match_files(content: dict[str, Any], paths: list[Path], where: str) -> list[dict[str, Any]]:
    """Return the json's image entry of each path, found by the end of the path that is its ``file_name``.

    Args:
        content: What :func:`read_coco` returned.
        paths: Image files.
        where: The annotation file, for errors.

    Raises:
        DataError: A path is not in the json, or two paths are the same entry.
    """
    by_name = {Path(entry["file_name"]).as_posix(): entry for entry in content["images"]}
    matched: dict[int, Path] = {}
    entries = []
    for path in paths:
        ends = ("/".join(path.parts[start:]) for start in range(len(path.parts) - 1, -1, -1))
        entry = next((by_name[end] for end in ends if end in by_name), None)
        if entry is None:
            raise DataError(
                f"image '{path}' is not in '{where}'",
                expected="annotations for every image",
                mend="take it off the list or name the matching annotation file",
            )
        if entry["id"] in matched:
            raise DataError(
                f"images '{matched[entry['id']]}' and '{path}' are both '{entry['file_name']}' in '{where}'",
                expected="one image per entry",
                mend="remove one of them or write file_name with its directory",
            )
        matched[entry["id"]] = path
        entries.append(entry)
    return entries


_OF_TASKS = ("segmentation", "keypoints", "num_keypoints")
"""What is kept of an annotation beside its box, for the metrics of other tasks."""


def restricted(content: dict[str, Any], images: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the annotations of the given images in the form that scoring needs.

    Annotations are numbered from 1, because pycocotools takes a match with the annotation of id 0 for no match;
    a missing ``area`` becomes that of the box, a missing ``iscrowd`` 0.

    Args:
        content: What :func:`read_coco` returned.
        images: Entries of the images to keep.
    """
    kept = {entry["id"] for entry in images}
    own = [entry for entry in content["annotations"] if entry["image_id"] in kept]
    annotations = [
        {
            "id": number,
            "image_id": entry["image_id"],
            "category_id": entry["category_id"],
            "bbox": [float(value) for value in entry["bbox"]],
            "area": float(entry.get("area", entry["bbox"][2] * entry["bbox"][3])),
            "iscrowd": int(entry.get("iscrowd", 0)),
        }
        | {key: entry[key] for key in _OF_TASKS if key in entry}
        for number, entry in enumerate(own, start=1)
    ]
    categories = [{"id": entry["id"], "name": entry["name"].strip()} for entry in content["categories"]]
    return {"images": images, "annotations": annotations, "categories": categories}
