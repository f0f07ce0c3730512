"""Image files: which they are, how large they are, and their pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from yoloqat.datasets.channels import check_channels, read_pixels
from yoloqat.errors import DataError

EXTENSIONS = frozenset({".avif", ".bmp", ".dng", ".jp2", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp"})
"""Extensions of image files in lower case; files are matched whatever their case."""

_ORIENTATION = 0x0112
_TURNED = frozenset({5, 6, 7, 8})


def is_image(path: Path) -> bool:
    """Tell by its extension whether ``path`` names an image."""
    return path.suffix.lower() in EXTENSIONS


def decode(path: Path, channels: int = 3) -> NDArray[np.uint8]:
    """Return the pixels of an image file, read as Ultralytics reads them for a model of so many channels.

    Args:
        path: The file.
        channels: 1 reads it as grey, 3 as BGR, both turned as its orientation tag says; any other number takes the channels
            that the file has, e.g. BGR and alpha, or the pages of a grey TIFF. Of 16 bits the upper 8 are taken.

    Returns:
        Shape (height, width, channels), uint8.

    Raises:
        DataError: The file is missing or does not decode, or has another number of channels.
    """
    try:
        content = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise DataError(
            f"image '{path}' cannot be read ({error.strerror})",
            expected="a readable image file",
            mend="restore it or take it off the list",
        ) from error
    image = read_pixels(content, channels) if content.size else None
    if image is None:
        raise DataError(
            f"image '{path}' does not decode", expected="a whole image file", mend="restore it or take it off the list"
        )
    check_channels(image, channels, path)
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


def find_images(directory: Path) -> list[Path]:
    """Return all images below ``directory``, sorted by path; what is hidden (a name that starts with a dot) is left out.

    Raises:
        DataError: It is no directory, or holds no image.
    """
    if not directory.is_dir():
        raise DataError(
            f"image directory '{directory}' does not exist", expected="a directory of images", mend="check the path"
        )
    found = sorted(
        path
        for path in directory.rglob("*")
        if is_image(path)
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(directory).parts)
    )
    if not found:
        raise DataError(
            f"'{directory}' holds no images",
            expected=f"files that end in {', '.join(sorted(EXTENSIONS))}",
            mend="name the directory that holds the images",
        )
    return found
