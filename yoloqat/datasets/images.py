"""Image files: which they are, how large they are, and their pixels."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from yoloqat.errors import DataError

EXTENSIONS = frozenset({".avif", ".bmp", ".dng", ".jp2", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp"})
"""Extensions of image files in lower case; files are matched whatever their case."""

_ORIENTATION = 0x0112
_TURNED = frozenset({5, 6, 7, 8})


def is_image(path: Path) -> bool:
    """Tell by its extension whether ``path`` names an image."""
    return path.suffix.lower() in EXTENSIONS


def decode(path: Path) -> NDArray[np.uint8]:
    """Return the pixels of an image file as (height, width, 3), BGR, uint8, turned as its orientation tag says.

    Raises:
        DataError: The file is missing or does not decode.
    """
    try:
        content = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise DataError(
            f"image '{path}' cannot be read ({error.strerror})",
            expected="a readable image file",
            mend="restore it or take it off the list",
        ) from error
    image: NDArray[np.uint8] | None = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
    if image is None:
        raise DataError(
            f"image '{path}' does not decode", expected="a whole image file", mend="restore it or take it off the list"
        )
    return image


def image_size(path: Path) -> tuple[int, int]:
    """Return (width, height) of an image in pixels as :func:`decode` gives them, from the file's head where possible.

    Raises:
        DataError: The file is missing or is no image.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(_ORIENTATION) in _TURNED
    except (OSError, ValueError, SyntaxError, ImportError):
        # ImportError: once imported, Ultralytics has Pillow look for a HEIF plugin where it cannot tell what a file is
        height, width = decode(path).shape[:2]  # formats that only OpenCV reads
        return width, height
    return (height, width) if turned else (width, height)


def check_directory(directory: Path) -> None:
    """Check that images can be looked for in ``directory``.

    Raises:
        DataError: It is no directory.
    """
    if not os.path.isdir(directory):  # noqa: PTH112 - False for what is no path at all
        there = os.path.exists(directory)  # noqa: PTH110
        raise DataError(
            f"image directory '{directory}' {'is no directory' if there else 'does not exist'}",
            expected="a directory of images",
            mend="check the path",
        )


def _unreadable(error: OSError) -> None:
    raise DataError(
        f"image directory '{error.filename}' cannot be read ({error.strerror})",
        expected="a readable directory of images",
        mend="check its permissions",
    ) from error


def find_images(directory: Path) -> list[Path]:
    """Return all images below ``directory``, sorted by path; what is hidden (a name that starts with a dot) is left out.

    Raises:
        DataError: It is no directory, one below cannot be read, or it holds no image.
    """
    check_directory(directory)
    found, entered = [], set()
    # unlike Path.rglob, this enters directories that are links, as others do, each once even where they form a circle
    for place, directories, names in os.walk(directory, onerror=_unreadable, followlinks=True):
        entered.add(os.path.realpath(place))
        directories[:] = (
            name
            for name in directories
            if not name.startswith(".") and os.path.realpath(Path(place, name)) not in entered
        )
        found += [path for name in names if is_image(path := Path(place, name)) and not name.startswith(".")]
    found = sorted(path for path in found if path.is_file())
    if not found:
        raise DataError(
            f"'{directory}' holds no images",
            expected=f"files that end in {', '.join(sorted(EXTENSIONS))}",
            mend="name the directory that holds the images",
        )
    return found
