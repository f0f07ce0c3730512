"""The training images as Ultralytics wants to find them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yoloqat.datasets.categories import warn_of_indices
from yoloqat.datasets.dataset_yaml import DatasetFile, is_plain, read_dataset_file
from yoloqat.datasets.splits import split_images
from yoloqat.datasets.yolo_labels import label_path
from yoloqat.errors import DataError, OutputError
from yoloqat.provenance import write_text


def training_file(data: Path, folder: Path, names: dict[int, str], *, channels: int = 3) -> Path:
    """Write a data set YAML for Ultralytics into ``folder`` and return it.

    Images and labels are reached through links in ``folder``, so that Ultralytics' label caches lie there and not beside the
    labels, whose directory may be read-only, and so that paths mean what they mean to every other stage.

    Args:
        data: The user's data set YAML.
        folder: A directory for what is written; it may hold the links of an earlier call.
        names: Class index to class name of the detector.
        channels: Of the images that the detector takes.

    Raises:
        DataError: A split is missing or empty, an image's name cannot stand in a list, or there is another number of
            classes than the detector's.
        OutputError: A file or a link cannot be written.
    """
    spec = read_dataset_file(data)
    if len(spec.names) != len(names):
        ours, theirs = ", ".join(names.values()), ", ".join(spec.names.values())
        raise DataError(
            f"data set '{data}' has {len(spec.names)} classes: {theirs[:120]}",
            expected=f"the detector's {len(names)}, in its order: {ours[:120]}",
            hint="fine-tune on the data set that the detector was trained for",
        )
    warn_of_indices(spec.names, names, str(data))
    lists = {split: folder / f"{split}.txt" for split in ("train", "val")}
    for split, target in lists.items():
        paths = _linked(_images(spec, split), folder)
        write_text(target, "".join(f"{path}\n" for path in paths))
    content: dict[str, Any] = {split: str(target.absolute()) for split, target in lists.items()}
    content |= {"path": str(folder.absolute()), "channels": channels}
    target = folder / "data.yaml"
    write_text(target, json.dumps(content | {"names": {str(index): name for index, name in names.items()}}) + "\n")
    return target


def training_data(file: Path) -> dict[str, Any]:
    """Return what Ultralytics' trainer wants to know of a data set, read from what :func:`training_file` wrote.

    Ultralytics' own reader would also run a script that the file names, and fetch a font for plots.

    Args:
        file: From :func:`training_file`.
    """
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    names = {int(index): name for index, name in content["names"].items()}
    return content | {"path": Path(content["path"]), "names": names, "nc": len(names)}


def _images(spec: DatasetFile, split: str) -> list[Path]:
    sources = spec.train if split == "train" else spec.val
    if not sources:
        raise DataError(
            f"data set '{spec.path}' has no {split} split",
            expected="images to train on and others to score on",
            hint=f"add {split}: with a directory or a list file",
        )
    paths = split_images(sources, spec.root, split)
    for path in paths:
        if not is_plain(str(path)) or len(str(path).splitlines()) > 1:
            raise DataError(
                f"image '{path}' cannot be listed for a training",
                expected="a name in UTF-8 and in one line",
                hint="rename it",
            )
    return paths


def _linked(paths: Sequence[Path], folder: Path) -> list[Path]:
    """Return where the images are reached through ``folder``; each directory of images and of labels is linked once."""
    links: dict[Path, Path] = {}
    for path in paths:
        directory = path.parent
        if directory not in links:
            name = f"{len(links)}-{directory.name}"
            links[directory] = folder.absolute() / "images" / name
            _link(links[directory], directory)
            _link(folder.absolute() / "labels" / name, label_path(path).parent)
    return [links[path.parent] / path.name for path in paths]


def _link(link: Path, target: Path) -> None:
    try:
        link.parent.mkdir(parents=True, exist_ok=True)
        if link.is_symlink():
            link.unlink()
        link.symlink_to(target.absolute(), target_is_directory=True)
    except OSError as error:
        raise OutputError(
            f"cannot link '{link}' to '{target}' ({error.strerror})",
            expected="a file system that takes links",
            hint="name another directory with `out`; on Windows, turn on developer mode",
        ) from error
