"""Labels of what boxes leave out, polygons, keypoints and corners, as lines of YOLO label files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from yoloqat.datasets.categories import match_categories
from yoloqat.datasets.records import DetectionDataset, ImageRecord
from yoloqat.datasets.splits import read_text
from yoloqat.datasets.yolo_labels import label_path


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
        DataError: The names do not match the data set's categories.
    """
    class_of = {category: index for index, category in match_categories(dataset, names).items()}
    key = {"segment": "segmentation", "pose": "keypoints"}.get(task)
    entries = dataset.annotations["annotations"]
    if key is not None and any(entry.get(key) for entry in entries):
        return _from_json(dataset, task, class_of)
    found = {record: tuple(_lines(record)) for record in dataset.images}
    return {
        record: tuple(_renumbered(line, class_of) for line in lines)
        for record, lines in found.items()
        if all(_fits(len(line.split()), task, dataset.kpt_shape) for line in lines)
    }


def _renumbered(line: str, class_of: dict[int, int]) -> str:
    index, _, rest = line.partition(" ")
    return f"{class_of[int(index)]} {rest}"


def _fits(fields: int, task: str, kpt_shape: tuple[int, int] | None) -> bool:
    if task == "pose":
        return kpt_shape is not None and fields == 5 + kpt_shape[0] * kpt_shape[1]
    return fields == 9 if task == "obb" else fields >= 7 and fields % 2 == 1


def _lines(record: ImageRecord) -> Iterable[str]:
    path = label_path(record.path)
    text = read_text(path, "label file") if path.is_file() else ""
    return dict.fromkeys(line.strip() for line in text.splitlines() if line.strip())


def _from_json(dataset: DetectionDataset, task: str, class_of: dict[int, int]) -> dict[ImageRecord, tuple[str, ...]]:
    lines: dict[int, list[str]] = defaultdict(list)
    incomplete = set()
    records = {record.image_id: record for record in dataset.images}
    for entry in dataset.annotations["annotations"]:
        record = records[entry["image_id"]]
        if entry["iscrowd"]:
            continue
        numbers = (_polygon if task == "segment" else _keypoints)(entry, record)
        if numbers:
            lines[record.image_id].append(
                " ".join([str(class_of[entry["category_id"]]), *(f"{number:.6f}" for number in numbers)])
            )
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
    parts = [part for part in parts if len(part) >= 6] if isinstance(parts, list) else []
    if not parts:
        return None
    ring = list(parts[0])
    for part in parts[1:]:
        ring += [*parts[0][:2], *part, *part[:2], *parts[0][:2]]
    return _fractions(ring, (record.width, record.height))


def _keypoints(entry: dict[str, Any], record: ImageRecord) -> list[float] | None:
    points = entry.get("keypoints")
    if not points or not entry.get("num_keypoints", 1):
        return None
    x, y, width, height = entry["bbox"]
    box = _fractions([x + width / 2, y + height / 2, width, height], (record.width, record.height))
    rows = [points[start : start + 3] for start in range(0, len(points), 3)]
    return box + [
        number
        for px, py, seen in rows
        for number in (*_fractions([px, py], (record.width, record.height)), float(seen))
    ]


def _fractions(numbers: Sequence[float], size: tuple[int, int]) -> list[float]:
    return [min(max(number / size[index % 2], 0.0), 1.0) for index, number in enumerate(numbers)]
