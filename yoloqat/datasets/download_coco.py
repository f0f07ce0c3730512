"""COCO from its own server to a directory that every command takes.

What is finished is left alone: each part appears whole under its name. An archive that the user put into the directory is
taken instead of the server's, and kept; one that was fetched goes once it is unpacked.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import yaml

from yoloqat.datasets.coco_json import read_coco
from yoloqat.datasets.download import check_md5, fetch, held
from yoloqat.datasets.download_source import Archive, Part, Source
from yoloqat.datasets.download_unpack import unpack
from yoloqat.errors import DataError, OutputError
from yoloqat.progress import Progress, silent
from yoloqat.provenance import write_text

YAML = "coco.yaml"
SUFFIX = ".part"

_HEADER = """\
# COCO 2017, https://cocodataset.org: annotations under CC BY 4.0, images under the terms of their owners on Flickr.
# Written by `yoloqat data`, which writes it anew each time.
"""


@dataclass(frozen=True)
class Obtained:
    """How one archive's parts came to be there.

    Attributes:
        archive: The archive.
        origin: ``"present"`` (nothing was to be done), ``"given"`` (the user's own archive) or ``"fetched"``.
        received: Bytes that came from the server this time.
    """

    archive: Archive
    origin: str
    received: int = 0


def obtain(source: Source, root: Path, *, train: bool = False, progress: Progress = silent) -> tuple[Obtained, ...]:
    """Fetch, check and unpack what a data set needs, and write its YAML.

    Args:
        source: The server and its archives, e.g. :data:`yoloqat.datasets.download_source.COCO2017`.
        root: Directory of the data set.
        train: Whether the training split is wanted too.
        progress: Who watches.

    Returns:
        What was done for each archive, in order.

    Raises:
        DataError: The server fails, a file is not what it should be, or a directory holds something else.
        OutputError: There is too little space, or the directory cannot be written.
    """
    wanted = source.of(frozenset({"val", "train"} if train else {"val"}))
    waiting = {archive: missing for archive in wanted.archives if (missing := _missing(archive, root))}
    _check_space(root, waiting)
    found = []
    for archive in wanted.archives:
        if archive in waiting:
            hint = _by_hand(wanted, tuple(waiting)[tuple(waiting).index(archive) :], root)
            found.append(_obtain_one(wanted, archive, waiting[archive], root, hint=hint, progress=progress))
        else:
            found.append(Obtained(archive, "present"))
    write_text(root / YAML, dataset_yaml(source, root))
    return tuple(found)


def dataset_yaml(source: Source, root: Path) -> str:
    """Return the data set's YAML: the splits that are there, and the class names in the order of the category ids.

    Raises:
        DataError: The annotations are no COCO json.
    """
    parts = [part for archive in source.archives for part in archive.parts]
    images = {part.split: part for part in parts if part.inside.endswith("/")}
    labels = next(part for part in parts if part.split == "val" and not part.inside.endswith("/"))
    categories = sorted(read_coco(root / labels.target)["categories"], key=lambda category: int(category["id"]))
    content = {split: part.target for split, part in sorted(images.items()) if part.finished(root) == part.files} | {
        "names": {index: str(category["name"]) for index, category in enumerate(categories)}
    }
    return _HEADER + yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def space_needed(waiting: dict[Archive, tuple[Part, ...]], root: Path) -> int:
    """Return how many more bytes of the disk are taken at the most, archives going as they are unpacked.

    Args:
        waiting: Archives in order with what is missing of each.
        root: Directory of the data set.
    """
    most = taken = 0
    for archive, parts in waiting.items():
        there = held(_part(archive, root))
        fetching = 0 if (root / archive.name).exists() else archive.size - there
        unpacked = sum(part.size for part in parts)
        most = max(most, taken + fetching + unpacked)
        taken += unpacked - there
    return most


def _missing(archive: Archive, root: Path) -> tuple[Part, ...]:
    missing = []
    for part in archive.parts:
        count = part.finished(root)
        if 0 < count != part.files:
            raise DataError(
                f"'{root / part.target}' holds {count} files",
                expected=f"the {part.files} of {archive.name}, or nothing",
                hint="move it elsewhere, or name another directory with `out`",
            )
        if not count:
            missing.append(part)
    return tuple(missing)


def _part(archive: Archive, root: Path) -> Path:
    return root / f"{archive.name}{SUFFIX}"


def _by_hand(source: Source, archives: tuple[Archive, ...], root: Path) -> str:
    addresses = " and ".join(source.url(archive) for archive in archives)
    return (
        f"without a network, fetch {addresses} elsewhere, put what you fetched as it is into '{root}' and run again; "
        "or name a server that holds the same files with `mirror`"
    )


def _check_space(root: Path, waiting: dict[Archive, tuple[Part, ...]]) -> None:
    needed = space_needed(waiting, root)
    nearest = next(path for path in (root, *root.absolute().parents) if path.exists())
    free = shutil.disk_usage(nearest).free
    if needed > free:
        raise OutputError(
            f"'{root}' has {free / 1e9:.2f} GB of free space",
            expected=f"{needed / 1e9:.2f} GB for {', '.join(archive.name for archive in waiting)}, unpacked",
            hint="free space there or name another directory with `out`",
        )


def _obtain_one(
    source: Source, archive: Archive, parts: tuple[Part, ...], root: Path, *, hint: str, progress: Progress
) -> Obtained:
    given = root / archive.name
    if given.exists():
        check_md5(given, archive.md5, hint=f"remove it, or put {source.url(archive)} there", progress=progress)
        _unpack_all(given, parts, root, progress)
        return Obtained(archive, "given")
    path = _part(archive, root)
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot make '{root}' ({error.strerror or error})",
            expected="a directory that can be made",
            hint="name another with `out`",
        ) from error
    received = fetch(source.url(archive), path, archive.size, hint=hint, pauses=source.pauses, progress=progress)
    try:
        check_md5(
            path, archive.md5, hint="it was removed; run again, or name another server with `mirror`", progress=progress
        )
    except DataError:
        path.unlink(missing_ok=True)
        raise
    _unpack_all(path, parts, root, progress)
    path.unlink()
    return Obtained(archive, "fetched", received)


def _unpack_all(archive: Path, parts: tuple[Part, ...], root: Path, progress: Progress) -> None:
    for part in parts:
        unpack(archive, part.inside, root / part.target, files=part.files, progress=progress)
