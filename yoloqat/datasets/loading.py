"""Data sets from an Ultralytics YAML or from a COCO pair."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from yoloqat.datasets.categories import once_named, told_apart
from yoloqat.datasets.coco_json import match_files, read_coco, restricted
from yoloqat.datasets.dataset_yaml import DatasetFile, read_dataset_file
from yoloqat.datasets.images import check_directory, image_size, readable_images
from yoloqat.datasets.records import DetectionDataset, ImageRecord
from yoloqat.datasets.splits import checked_images, split_images
from yoloqat.datasets.yolo_labels import read_labels
from yoloqat.errors import DataError


def load_dataset(
    data: Path | None = None,
    *,
    images: Path | None = None,
    annotations: Path | None = None,
    skipped: list[Path] | None = None,
) -> DetectionDataset:
    """Load the validation split of a data set with its labels.

    Args:
        data: An Ultralytics data set YAML. Where its directory, or the one that its ``path`` names, holds
            ``annotations/instances_<name of the val list>.json``, the labels come from there (crowds and areas count);
            else from the YOLO label files beside the images.
        images: Directory of the images of a COCO json, instead of ``data``.
        annotations: That COCO json.
        skipped: Takes the images that do not decode, which are left out with their labels; every image is decoded once for
            that. None takes them all unread.

    Returns:
        The images, sorted by path, and their labels.

    Raises:
        DataError: A file is missing or malformed, or the data set is empty, inconsistent or without labels.
    """
    if data is not None and images is None and annotations is None:
        return _from_yaml(data, skipped)
    if data is None and images is not None and annotations is not None:
        return _from_pair(images, annotations, skipped)
    given = {"data": data, "images": images, "annotations": annotations}
    raise DataError(
        f"the data set is {', '.join(f'{key} {value}' for key, value in given.items() if value) or 'not named'}",
        expected="either a data set YAML, or a directory of images together with a COCO json",
        hint="give `data=FILE.yaml`, or `images=DIR` and `annotations=FILE.json`",
    )


def _from_yaml(path: Path, skipped: list[Path] | None) -> DetectionDataset:
    spec = read_dataset_file(path)
    if not spec.val:
        raise DataError(
            f"data set '{path}' has no val split",
            expected="a validation split to score on",
            hint="add val: with a directory or a list file",
        )
    paths = split_images(spec.val, spec.root, "val")
    json_file = _json_of(spec)
    if json_file is not None:
        content = read_coco(json_file)
        found = _from_json(content, paths, match_files(content, paths, str(json_file)), json_file, skipped)
        return replace(found, kpt_shape=spec.kpt_shape)
    kept = _readable(paths, skipped)
    records = [ImageRecord(file, number, *image_size(file)) for number, file in enumerate(kept, start=1)]
    return DetectionDataset(
        tuple(records),
        spec.names,
        read_labels(records, told_apart(spec.names), spec.kpt_shape),
        f"YOLO label files of '{path}'",
        spec.kpt_shape,
        by_index=True,
    )


def _json_of(spec: DatasetFile) -> Path | None:
    if len(spec.val) != 1:
        return None
    name = f"instances_{spec.val[0].stem}.json"
    candidates = (directory / "annotations" / name for directory in (spec.path.parent, spec.root))
    return next((file for file in candidates if file.is_file()), None)


def _from_pair(images: Path, annotations: Path, skipped: list[Path] | None) -> DetectionDataset:
    content = read_coco(annotations)
    check_directory(images)
    paths = [images / entry["file_name"] for entry in content["images"]]
    entry_of = dict(zip(paths, content["images"], strict=True))
    ordered = checked_images(paths, f"annotation file '{annotations}'")
    return _from_json(content, ordered, [entry_of[path] for path in ordered], annotations, skipped)


def _from_json(
    content: dict[str, Any],
    paths: list[Path],
    entries: list[dict[str, Any]],
    source: Path,
    skipped: list[Path] | None,
) -> DetectionDataset:
    entry_of = dict(zip(paths, entries, strict=True))
    paths = _readable(paths, skipped)
    entries = [entry_of[path] for path in paths]
    labels = restricted(content, entries)
    if not labels["annotations"]:
        raise DataError(
            f"annotation file '{source}' has no annotations for the {len(paths)} images",
            expected="boxes on at least one of them",
            hint="name the annotation file of these images",
        )
    records = tuple(
        ImageRecord(path, entry["id"], *_size(path, entry)) for path, entry in zip(paths, entries, strict=True)
    )
    labels["categories"] = once_named(labels)
    by_id = sorted(labels["categories"], key=lambda category: int(category["id"]))
    names = {index: category["name"] for index, category in enumerate(by_id)}
    return DetectionDataset(records, names, labels, str(source))


def _readable(paths: list[Path], skipped: list[Path] | None) -> list[Path]:
    kept = readable_images(paths, skipped)
    if not kept:
        raise DataError(
            f"none of {len(paths)} images decodes, e.g. not '{paths[0]}'",
            expected="whole image files",
            hint="restore the images",
        )
    return kept


def _size(path: Path, entry: dict[str, Any]) -> tuple[int, int]:
    width, height = entry.get("width"), entry.get("height")
    if isinstance(width, int) and isinstance(height, int):
        return width, height
    return image_size(path)
