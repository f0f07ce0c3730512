"""Labels of what boxes leave out, polygons, keypoints and corners, as lines of YOLO label files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from yoloqat.datasets.categories import match_categories
from yoloqat.datasets.coco_json import is_number
from yoloqat.datasets.records import DetectionDataset, ImageRecord
from yoloqat.datasets.yolo_labels import label_path, label_rows
from yoloqat.errors import DataError


def task_labels(dataset: DetectionDataset, task: str, names: dict[int, str]) -> dict[ImageRecord, tuple[str, ...]]:
    """Return the label lines of the images of a data set whose objects all have such a label, in its order.

    Polygons and keypoints of a COCO json are turned into lines. Crowds do not count; an image with an object that has a box
    alone is left out, for what a model finds there could not be judged. Keypoints are labelled on persons only, and small
    ones have none: there a missing label is no reason. Label files are taken as they are.

    Args:
        dataset: The data set.
        task: ``"segment"``, ``"pose"`` or ``"obb"``.
        names: Class index to class name of the model; its indices stand in the lines.

    Returns:
        Each image's lines, ``class x1 y1 x2 y2 ...`` or ``class x y width height x1 y1 v1 ...``, as fractions of the image.

    Raises:
        DataError: The names do not match the data set's categories, or a label is malformed.
    """
    class_of = {category: index for index, category in match_categories(dataset, names).items()}
    key = {"segment": "segmentation", "pose": "keypoints"}.get(task)
    entries = dataset.annotations["annotations"]
    if key is not None and any(entry.get(key) for entry in entries):
        return _from_json(dataset, task, class_of)
    ids = sorted(int(entry["id"]) for entry in dataset.annotations["categories"])
    found = {record: label_rows(label_path(record.path), len(ids), dataset.kpt_shape) for record in dataset.images}
    return {
        record: tuple(_line(class_of[ids[index]], map(repr, numbers)) for index, numbers in rows)
        for record, rows in found.items()
        if all(_fits(1 + len(numbers), task, dataset.kpt_shape) for _, numbers in rows)
    }


def _line(index: int, numbers: Iterable[str]) -> str:
    return " ".join([str(index), *numbers])


def _fits(fields: int, task: str, kpt_shape: tuple[int, int] | None) -> bool:
    if task == "pose":
        return kpt_shape is not None and fields == 5 + kpt_shape[0] * kpt_shape[1]
    return fields == 9 if task == "obb" else fields >= 7 and fields % 2 == 1


def _from_json(dataset: DetectionDataset, task: str, class_of: dict[int, int]) -> dict[ImageRecord, tuple[str, ...]]:
    lines: dict[int, list[str]] = defaultdict(list)
    incomplete = set()
    records = {record.image_id: record for record in dataset.images}
    for entry in dataset.annotations["annotations"]:
        record = records[entry["image_id"]]
        if entry["iscrowd"]:
            continue
        numbers = _polygon(entry, record) if task == "segment" else _keypoints(entry, record, dataset.kpt_shape)
        if numbers:
            fields = (f"{number:.6f}" for number in numbers)
            lines[record.image_id].append(_line(class_of[entry["category_id"]], fields))
        elif task == "segment":
            incomplete.add(record.image_id)
    return {
        record: tuple(dict.fromkeys(lines[record.image_id]))
        for record in dataset.images
        if record.image_id not in incomplete
    }


def _polygon(entry: dict[str, Any], record: ImageRecord) -> list[float] | None:
    """Return one ring around all parts of an object: from its first corner to each further part and back again."""
    parts = entry.get("segmentation")
    parts = [_numbers(entry, "segmentation", part, 2) for part in parts] if isinstance(parts, list) else []
    parts = [part for part in parts if len(part) >= 6]
    if not parts:
        return None
    ring = list(parts[0])
    for part in parts[1:]:
        ring += [*parts[0][:2], *part, *part[:2], *parts[0][:2]]
    return _fractions(ring, (record.width, record.height))


def _keypoints(entry: dict[str, Any], record: ImageRecord, kpt_shape: tuple[int, int] | None) -> list[float] | None:
    if not entry.get("keypoints") or not entry.get("num_keypoints", 1):
        return None
    points = _numbers(entry, "keypoints", entry["keypoints"], 3 if kpt_shape is None else 3 * kpt_shape[0])
    x, y, width, height = entry["bbox"]
    box = _fractions([x + width / 2, y + height / 2, width, height], (record.width, record.height))
    rows = [points[start : start + 3] for start in range(0, len(points), 3)]
    return box + [
        number
        for px, py, seen in rows
        for number in (*_fractions([px, py], (record.width, record.height)), float(seen))
    ]


def _numbers(entry: dict[str, Any], key: str, values: Any, step: int) -> list[float]:
    if not isinstance(values, list) or len(values) % step or not all(map(is_number, values)):
        raise DataError(
            f"annotation {entry['id']} of image {entry['image_id']} has the {key} {values!r:.80}",
            expected=f"a list of {step}, or a multiple of it, finite numbers",
            hint="fix the annotation file",
        )
    return values


def _fractions(numbers: Sequence[float], size: tuple[int, int]) -> list[float]:
    return [min(max(number / size[index % 2], 0.0), 1.0) for index, number in enumerate(numbers)]
