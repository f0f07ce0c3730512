"""An Ultralytics data set YAML, and the image files of its splits."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from yoloqat.datasets.images import EXTENSIONS, find_images, is_image
from yoloqat.errors import DataError


@dataclass(frozen=True)
class DatasetFile:
    """An Ultralytics data set YAML with its paths resolved.

    Attributes:
        path: The YAML file.
        root: The directory that its splits are relative to.
        names: Class index to class name.
        train: Sources of the training split (list files, directories or images); empty where there is none.
        val: Sources of the validation split; empty where there is none.
        kpt_shape: Keypoints per object and numbers per keypoint, of a data set for poses.
    """

    path: Path
    root: Path
    names: dict[int, str]
    train: tuple[Path, ...]
    val: tuple[Path, ...]
    kpt_shape: tuple[int, int] | None = None


def read_text(path: Path, kind: str) -> str:
    """Return a text file's content; ``kind`` names the file in errors, e.g. ``"data set"``.

    Raises:
        DataError: The file is missing, unreadable, or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{kind} '{path}' does not exist", expected="a file", mend="check the path") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise DataError(
            f"{kind} '{path}' cannot be read ({reason})", expected="a readable text file", mend="check the file"
        ) from error


def read_dataset_file(path: Path) -> DatasetFile:
    """Read an Ultralytics data set YAML: ``path``, ``train``, ``val`` and ``names``.

    Relative paths are resolved beside the YAML file: ``path`` against its directory, the splits against ``path``.

    Raises:
        DataError: The file is missing, is no YAML mapping, or a value is of the wrong kind.
    """
    try:
        content = yaml.safe_load(read_text(path, "data set"))
    except yaml.YAMLError as error:
        line = str(getattr(error, "problem", None) or error)
        raise DataError(f"data set '{path}' is not YAML ({line})", expected="a YAML mapping", mend="mend it") from error
    if not isinstance(content, dict):
        raise DataError(
            f"data set '{path}' holds a {type(content).__name__}",
            expected="a YAML mapping with path, train, val and names",
            mend="name the data set's YAML file",
        )
    root = path.parent / str(content.get("path") or "")
    return DatasetFile(
        path=path,
        root=root,
        names=_names(path, content.get("names")),
        train=_sources(path, root, "train", content.get("train")),
        val=_sources(path, root, "val", content.get("val")),
        kpt_shape=_kpt_shape(path, content.get("kpt_shape")),
    )


def _kpt_shape(path: Path, value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    whole = isinstance(value, list) and len(value) == 2 and all(type(number) is int for number in value)
    if not whole or value[0] < 1 or value[1] not in (2, 3):
        raise DataError(
            f"kpt_shape of data set '{path}' is {_short(value)}",
            expected="keypoints per object, and 2 or 3 numbers per keypoint, e.g. [17, 3]",
            mend="write the shape of the labels",
        )
    return value[0], value[1]


def _names(path: Path, value: Any) -> dict[int, str]:
    entries = dict(enumerate(value)) if isinstance(value, list) else value
    dense = (
        isinstance(entries, dict)
        and bool(entries)
        and sorted(map(str, entries)) == sorted(map(str, range(len(entries))))
    )
    if not dense:
        raise DataError(
            f"names of data set '{path}' are {_short(value)}",
            expected="a list of class names, or a mapping from 0, 1, 2, ... to them",
            mend="write the class names into it",
        )
    return {int(index): str(name).strip() for index, name in sorted(entries.items(), key=lambda item: int(item[0]))}


def _sources(path: Path, root: Path, split: str, value: Any) -> tuple[Path, ...]:
    entries = value if isinstance(value, list) else [value] if value else []
    if not all(isinstance(entry, str) for entry in entries):
        raise DataError(
            f"{split} of data set '{path}' is {_short(value)}",
            expected="a directory, a list file, or a list of those",
            mend="write paths",
        )
    return tuple(root / entry for entry in entries)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _listed(list_file: Path, root: Path) -> list[Path]:
    lines = [line.strip() for line in read_text(list_file, "image list").splitlines()]
    paths = [Path(line) for line in lines if line]
    for path in paths:
        if not is_image(path):
            raise DataError(
                f"'{path}' in image list '{list_file}' is no image",
                expected=f"one path a line that ends in {', '.join(sorted(EXTENSIONS))}",
                mend="remove the line",
            )
    beside = [list_file.parent / path for path in paths]
    return [near if near.exists() else root / path for near, path in zip(beside, paths, strict=True)]


def split_images(sources: tuple[Path, ...], root: Path, split: str) -> list[Path]:
    """Return the image files of a split, sorted by path, each of which exists and is named once.

    Args:
        sources: Directories, list files (one image path a line, relative to the list file or else to ``root``) or images.
        root: The data set's directory.
        split: ``"train"`` or ``"val"``, for errors.

    Raises:
        DataError: The split is empty, or an image is missing or named twice.
    """
    found: list[Path] = []
    for source in sources:
        if source.is_dir():
            found += find_images(source)
        elif is_image(source):
            found.append(source)
        else:
            found += _listed(source, root)
    where = ", ".join(map(str, sources))
    return checked_images(found, f"{split} split '{where}'")


def checked_images(paths: list[Path], where: str) -> list[Path]:
    """Return ``paths`` sorted; ``where`` names their origin in errors.

    Raises:
        DataError: There is none, or one is missing or there twice.
    """
    if not paths:
        raise DataError(f"{where} names no images", expected="at least one image", mend="fill it")
    for path in paths:
        if not path.is_file():
            raise DataError(
                f"image '{path}' of {where} does not exist",
                expected="an image file",
                mend="restore it or take it off the list",
            )
    twice = [path for path, count in Counter(path.resolve() for path in paths).items() if count > 1]
    if twice:
        raise DataError(
            f"image '{twice[0]}' is named more than once in {where} ({len(twice)} such images)",
            expected="every image once",
            mend="remove the repetitions",
        )
    return sorted(paths)
