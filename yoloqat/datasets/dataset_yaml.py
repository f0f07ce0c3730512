"""An Ultralytics data set YAML."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from yoloqat.datasets.splits import first_there, forms, read_text
from yoloqat.errors import DataError, warn
from yoloqat.provenance.plain_yaml import parse_yaml

LARGEST = 1 << 22
"""Bytes of such a file."""

MOST_CLASSES = 100_000


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


def read_dataset_file(path: Path) -> DatasetFile:
    """Read an Ultralytics data set YAML: ``path``, ``train``, ``val`` (or ``validation``), ``names`` and ``nc``.

    Relative paths are resolved beside the YAML file: ``path`` against its directory, the splits against ``path``. What is
    not there is looked for as others write it: ``path`` from the working directory, splits without a leading ``../`` (as
    Roboflow writes them), backslashes as slashes. Without ``names``, ``nc`` classes are called ``class_0``, ``class_1``, ...
    What is no text is left out with a warning.

    Raises:
        DataError: The file is missing, is no YAML mapping, or a value is of the wrong kind.
    """
    raw = read_text(path, "data set", most=LARGEST, errors="surrogateescape")
    text = yaml.reader.Reader.NON_PRINTABLE.sub("", raw)
    try:
        content, repeated = parse_yaml(text)
    except ValueError as error:
        raise DataError(
            f"data set '{path}' is not YAML ({error})", expected="a YAML mapping of plain values", hint="fix it"
        ) from error
    if not isinstance(content, dict):
        raise DataError(
            f"data set '{path}' holds a {type(content).__name__}",
            expected="a YAML mapping with path, train, val and names",
            hint="name the data set's YAML file",
        )
    values = {key: None if value == "None" else value for key, value in content.items()}
    root = _root(path, values.get("path"))
    found = DatasetFile(
        path=path,
        root=root,
        names=_names(path, values.get("names"), values.get("nc")),
        train=_sources(path, root, "train", values.get("train")),
        val=_sources(path, root, "val", values.get("val", values.get("validation"))),
        kpt_shape=_kpt_shape(path, values.get("kpt_shape")),
    )
    if len(text) < len(raw):
        warn(f"data set '{path}' has {len(raw) - len(text)} characters that are no text in UTF-8; they are left out")
    if repeated:
        warn(
            f"data set '{path}' has {len(repeated)} keys more than once, e.g. '{repeated[0]}'; the last of each counts"
        )
    return found


def _kpt_shape(path: Path, value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    whole = isinstance(value, list) and len(value) == 2 and all(type(number) is int for number in value)
    if not whole or value[0] < 1 or value[1] not in (2, 3):
        raise DataError(
            f"kpt_shape of data set '{path}' is {_short(value)}",
            expected="keypoints per object, and 2 or 3 numbers per keypoint, e.g. [17, 3]",
            hint="write the shape of the labels",
        )
    return value[0], value[1]


def _names(path: Path, value: Any, nc: Any) -> dict[int, str]:
    count = None if nc is None else _count(path, nc)
    if value is None and count is not None:
        return unnamed(count)
    entries = dict(enumerate(value)) if isinstance(value, list) else value
    names: dict[int, str] = {}
    if isinstance(entries, dict) and not any(isinstance(name, list | dict) for name in entries.values()):
        with suppress(ValueError):  # a key that is no whole number
            names = {int(str(index)): str(name).strip() for index, name in entries.items()}
    dense = bool(names) and len(names) == len(entries) and sorted(names) == list(range(len(names)))
    if not dense or not all(map(is_plain, names.values())):
        raise DataError(
            f"names of data set '{path}' are {_short(value)}",
            expected="a list of class names, or a mapping from 0, 1, 2, ... to them",
            hint="write the class names into it",
        )
    if count is not None and count != len(names):
        raise DataError(
            f"data set '{path}' has {len(names)} names and nc is {count}",
            expected="as many names as classes",
            hint="correct names, or remove nc",
        )
    return dict(sorted(names.items()))


def _count(path: Path, nc: Any) -> int:
    try:
        whole = float(nc) if isinstance(nc, str | int | float) else 0.0
    except (OverflowError, ValueError):
        whole = 0.0
    if not 1 <= whole <= MOST_CLASSES or whole != int(whole):
        raise DataError(
            f"nc of data set '{path}' is {_short(nc)}",
            expected=f"a number of classes from 1 to {MOST_CLASSES}",
            hint="write the number of classes, or names instead",
        )
    return int(whole)


def unnamed(count: int) -> dict[int, str]:
    """Return what classes are called where a data set states their number alone."""
    return {index: f"class_{index}" for index in range(count)}


def _root(path: Path, value: Any) -> Path:
    if value is not None and not (isinstance(value, str) and is_plain(value)):
        raise DataError(
            f"path of data set '{path}' is {_short(value)}",
            expected="the directory of the data set as text",
            hint="write it in quotes",
        )
    return first_there([place / form for form in forms(value or "") for place in (path.parent, Path())])


def _sources(path: Path, root: Path, split: str, value: Any) -> tuple[Path, ...]:
    entries = value if isinstance(value, list) else [value] if value else []
    if not all(isinstance(entry, str) and is_plain(entry) for entry in entries):
        raise DataError(
            f"{split} of data set '{path}' is {_short(value)}",
            expected="a directory, a list file, or a list of those",
            hint="write paths",
        )
    return tuple(first_there([root / near for form in forms(entry) for near in _inside(form)]) for entry in entries)


def _inside(text: str) -> list[str]:
    return [text, text.removeprefix("../")] if text.startswith("../") else [text]


def is_plain(text: str) -> bool:
    """Tell whether a text is free of NUL and of halves of surrogate pairs, which neither file systems nor JSON take."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python writes
        text = f"a long {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."
