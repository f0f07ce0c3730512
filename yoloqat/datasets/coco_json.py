"""A COCO annotation file, checked and cut down to the images that are scored."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from yoloqat.datasets.splits import read_text
from yoloqat.errors import DataError


def read_coco(path: Path) -> dict[str, Any]:
    """Read a COCO detection json.

    A missing or null ``area`` is None, a missing or null ``iscrowd`` 0. A ``width`` or ``height`` that is no whole number of
    pixels is None, as a missing one is. In file names, backslashes become slashes.

    Returns:
        The dict with ``images``, ``annotations`` and ``categories``, whose entries hold what is used, checked.

    Raises:
        DataError: The file is missing, is no COCO json, holds no images, annotations or categories, or is inconsistent.
    """
    try:
        content = json.loads(read_text(path, "annotation file"))
    except (ValueError, RecursionError, MemoryError) as error:  # ValueError: also an integer of thousands of digits
        raise DataError(
            f"annotation file '{path}' is not JSON ({error!s:.80})", expected="a COCO json", hint="check the file"
        ) from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list) or not content[key]:
            raise DataError(
                f"annotation file '{path}' has no {key}",
                expected="a COCO json with images, annotations and categories",
                hint="name the file with the instances' boxes",
            )
    checked = {key: [_entry(path, key, entry) for entry in content[key]] for key in _FIELDS}
    _check_ids(path, checked)
    return checked


_ID_LIMIT = 1 << 63
_LARGEST = 1e9
"""Pixels that no coordinate and no side reaches."""

_PATH_BYTES, _NAME_BYTES = 4096, 255


def is_number(value: Any) -> bool:
    """Tell whether ``value`` is a number of JSON (true and false are none) that pixels may have."""
    return type(value) in (int, float) and -_LARGEST <= value <= _LARGEST


def _whole(value: Any) -> int:
    """Return an id; some tools write ``7.0``."""
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or not -_ID_LIMIT <= value < _ID_LIMIT:
        raise ValueError
    return value


def _name(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError
    value.encode()  # a lone surrogate is a ValueError
    return value.strip()


def _file_name(value: Any) -> str:
    name = _name(value).replace("\\", "/")
    parts = [part.encode() for part in name.split("/")]
    if "\0" in name or max(map(len, parts)) > _NAME_BYTES or len(name.encode()) > _PATH_BYTES:
        raise ValueError
    return name


def _side(value: Any) -> int | None:
    """Return a side in pixels; None where it must be read from the image."""
    return int(value) if is_number(value) and value >= 1 and value == int(value) else None


def _box(value: Any) -> list[float]:
    if not isinstance(value, list) or len(value) != 4 or not all(map(is_number, value)) or min(value[2:]) < 0:
        raise ValueError
    return [float(number) for number in value]


def _area(value: Any) -> float | None:
    """Return an area in square pixels, None for that of the box."""
    if value is None:
        return None
    if type(value) not in (int, float) or not -(_LARGEST**2) <= value <= _LARGEST**2:
        raise ValueError
    return float(value)


def _crowd(value: Any) -> int:
    if value not in (None, 0, 1):  # false and true are 0 and 1
        raise ValueError
    return int(value or 0)


_FIELDS: dict[str, dict[str, Callable[[Any], Any]]] = {
    "images": {"id": _whole, "file_name": _file_name, "width": _side, "height": _side},
    "annotations": {"image_id": _whole, "category_id": _whole, "bbox": _box, "area": _area, "iscrowd": _crowd},
    "categories": {"id": _whole, "name": _name},
}
"""What is read of every entry, and how; a ValueError refuses it."""

_OF_TASKS = ("segmentation", "keypoints", "num_keypoints")
"""What is kept of an annotation beside its box as it stands, for the metrics of other tasks."""


def _entry(path: Path, key: str, entry: Any) -> dict[str, Any]:
    given = entry if isinstance(entry, dict) else {}
    checked = {name: given[name] for name in _OF_TASKS if name in given}
    for name, read in _FIELDS[key].items():
        try:
            checked[name] = read(given.get(name))
        except ValueError as error:
            raise _unfit(path, f"{key} holds an entry without a valid {name}", entry) from error
    return checked


def _check_ids(path: Path, content: dict[str, Any]) -> None:
    for key in ("images", "categories"):
        twice = [number for number, count in Counter(entry["id"] for entry in content[key]).items() if count > 1]
        if twice:
            raise _unfit(path, f"{key} holds an id more than once", twice[0])
    images, categories = ({entry["id"] for entry in content[key]} for key in ("images", "categories"))
    for entry in content["annotations"]:
        if entry["image_id"] not in images or entry["category_id"] not in categories:
            raise _unfit(path, "annotations holds an entry of an unknown image or category", entry)


def _unfit(path: Path, what: str, value: Any) -> DataError:
    if isinstance(value, dict):
        value = {key: entry for key, entry in value.items() if key not in _OF_TASKS}
    return DataError(
        f"annotation file '{path}': {what}: {value!r:.200}", expected="a valid COCO json", hint="fix the entry"
    )


def match_files(content: dict[str, Any], paths: list[Path], where: str) -> list[dict[str, Any]]:
    """Return the json's image entry of each path, found by the end of the path that is its ``file_name``.

    Args:
        content: What :func:`read_coco` returned.
        paths: Image files.
        where: The annotation file, for errors.

    Raises:
        DataError: A path is not in the json or there more than once, or two paths are the same entry.
    """
    by_name: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for entry in content["images"]:
        by_name[Path(entry["file_name"]).as_posix()].append(entry)
    matched: dict[int, Path] = {}
    entries = []
    for path in paths:
        ends = ("/".join(path.parts[start:]) for start in range(len(path.parts) - 1, -1, -1))
        found = next((by_name[end] for end in ends if end in by_name), [])
        if len(found) != 1:
            raise DataError(
                f"image '{path}' is {f'there {len(found)} times' if found else 'not'} in '{where}'",
                expected="annotations for every image",
                hint="take it off the list or name the matching annotation file",
            )
        entry = found[0]
        if entry["id"] in matched:
            raise DataError(
                f"images '{matched[entry['id']]}' and '{path}' are both '{entry['file_name']}' in '{where}'",
                expected="one image per entry",
                hint="remove one of them or write file_name with its directory",
            )
        matched[entry["id"]] = path
        entries.append(entry)
    return entries


def restricted(content: dict[str, Any], images: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the annotations of the given images in the form that scoring needs.

    Annotations are numbered from 1, because pycocotools takes a match with the annotation of id 0 for no match;
    an area that is not given becomes that of the box.

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
            "bbox": entry["bbox"],
            "area": entry["bbox"][2] * entry["bbox"][3] if entry["area"] is None else entry["area"],
            "iscrowd": entry["iscrowd"],
        }
        | {key: entry[key] for key in _OF_TASKS if key in entry}
        for number, entry in enumerate(own, start=1)
    ]
    categories = [{"id": entry["id"], "name": entry["name"]} for entry in content["categories"]]
    return {"images": images, "annotations": annotations, "categories": categories}
