"""The image files of a split: directories, lists of images, and images."""

from __future__ import annotations

import os
import stat
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections import Counter
from pathlib import Path

from yoloqat.datasets.images import EXTENSIONS, find_images, is_image
from yoloqat.errors import DataError, warn
from yoloqat.results import counted

LARGEST_LIST = 1 << 28
"""Bytes of a list of images: millions of them."""


def read_text(path: Path, kind: str, *, most: int | None = None, errors: str = "strict") -> str:
    """Return a text file's content; ``kind`` names the file in errors, e.g. ``"data set"``.

    Args:
        path: The file, in UTF-8, or in UTF-16 with a byte-order mark.
        kind: Names the file in errors.
        most: Bytes that it may have, None for any number.
        errors: What becomes of bytes that are no such text, as for :meth:`bytes.decode`.

    Raises:
        DataError: The file is missing, unreadable, no regular file, larger than that, or no such text.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            raise OSError(0, "it is no regular file")
        if most is not None and status.st_size > most:
            raise OSError(0, f"it has {status.st_size} bytes, more than {most}")
        content = path.read_bytes()
        return content.decode("utf-16" if content[:2] in (BOM_UTF16_LE, BOM_UTF16_BE) else "utf-8-sig", errors)
    except FileNotFoundError as error:
        raise DataError(f"{kind} '{path}' does not exist", expected="a file", hint="check the path") from error
    except (OSError, ValueError) as error:
        text = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)
        raise DataError(
            f"{kind} '{path}' cannot be read ({getattr(error, 'strerror', None) or text})",
            expected="a readable text file",
            hint="check the file",
        ) from error


def forms(text: str) -> list[str]:
    """Return a path as it is written, and with slashes where it was written with backslashes."""
    return [text, text.replace("\\", "/")] if "\\" in text else [text]


def first_there(candidates: list[Path]) -> Path:
    """Return the first path that exists, or else the first."""
    # unlike Path.exists, this is False for a path that is too long or holds NUL
    return next((path for path in candidates if os.path.exists(path)), candidates[0])  # noqa: PTH110


def _listed(list_file: Path, root: Path) -> list[Path]:
    text = read_text(list_file, "image list", most=LARGEST_LIST)
    lines = [line for line in map(str.strip, text.splitlines()) if line]
    foreign = [line for line in lines if not is_image(Path(line))]
    if foreign and len(foreign) == len(lines):
        raise DataError(
            f"image list '{list_file}' names no image, e.g. '{foreign[0]:.80}'",
            expected=f"one path a line that ends in {', '.join(sorted(EXTENSIONS))}",
            hint="name a list of images, or their directory",
        )
    if foreign:
        warn(
            f"{len(foreign)} lines of image list '{list_file}' name no image and are left out, e.g. '{foreign[0]:.80}'"
        )
    places = (list_file.parent, root, Path())
    return [
        first_there([place / form for form in forms(line) for place in places])
        for line in lines
        if is_image(Path(line))
    ]


def split_images(sources: tuple[Path, ...], root: Path, split: str) -> list[Path]:
    """Return the image files of a split, sorted by path, each of which exists.

    An image that is listed more than once counts once in ``"val"``, where scoring it twice would weigh it double; in
    ``"train"`` it stays there as often, because a training may be meant to see it so often.

    Args:
        sources: Directories, list files (one image path a line, relative to the list file, or else to ``root``, or else to
            the working directory) or images.
        root: The data set's directory.
        split: ``"train"`` or ``"val"``.

    Raises:
        DataError: The split is empty, or an image, a directory or a list is missing.
    """
    found: list[Path] = []
    for source in sources:
        if os.path.isdir(source):  # noqa: PTH112 - False for what is no path at all
            found += find_images(source)
        elif not os.path.exists(source):  # noqa: PTH110
            raise DataError(
                f"'{source}' of the {split} split does not exist",
                expected="a directory of images, a list of them, or an image",
                hint=f"correct {split}: or path: in the data set's YAML",
            )
        elif is_image(source):
            found.append(source)
        else:
            found += _listed(source, root)
    where = f"{split} split '{', '.join(map(str, sources))}'"
    _check_present(found, where)
    if split == "train":
        return sorted(found)
    once = distinct(found)
    if len(once) < len(found):
        twice = next(path for path, count in Counter(path.resolve() for path in found).items() if count > 1)
        warn(f"{where} names {counted(len(found) - len(once), 'image')} again, e.g. '{twice}'; each counts once")
    return once


def distinct(paths: list[Path]) -> list[Path]:
    """Return ``paths`` sorted, one for each file."""
    return sorted({path.resolve(): path for path in sorted(paths, reverse=True)}.values())


def checked_images(paths: list[Path], where: str) -> list[Path]:
    """Return ``paths`` sorted; ``where`` names their origin in errors.

    Raises:
        DataError: There is none, or one is missing or there twice.
    """
    _check_present(paths, where)
    twice = [path for path, count in Counter(path.resolve() for path in paths).items() if count > 1]
    if twice:
        raise DataError(
            f"image '{twice[0]}' is named more than once in {where} ({len(twice)} such images)",
            expected="every image once",
            hint="remove the repetitions",
        )
    return sorted(paths)


def _check_present(paths: list[Path], where: str) -> None:
    if not paths:
        raise DataError(f"{where} names no images", expected="at least one image", hint="fill it")
    for path in paths:
        if not os.path.isfile(path):  # noqa: PTH113 - False for what is no path at all
            raise DataError(
                f"image '{path}' of {where} does not exist",
                expected="an image file",
                hint="restore it or take it off the list",
            )
