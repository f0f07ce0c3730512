"""Image files: which they are, how large they are, and their pixels."""

from __future__ import annotations

import io
import os
import stat
import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from yoloqat.datasets.channels import check_channels, read_pixels
from yoloqat.errors import DataError

EXTENSIONS = frozenset({".avif", ".bmp", ".dng", ".jp2", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp"})
"""Extensions of image files in lower case; files are matched whatever their case."""

MAX_PIXELS = 178_956_970
"""The most pixels of an image; Pillow takes more for a decompression bomb, and Ultralytics leaves such an image out."""

MAX_BYTES = 1 << 31
"""The most bytes of an image file: as many pixels of 16 bits in four channels would take fewer."""

_ORIENTATION = 0x0112
_TIFF_SIDES = (0x0100, 0x0101)


@dataclass(frozen=True)
class _Head:
    """What the head of a file says of an image.

    Attributes:
        sides: (width, height) as stored, in pixels.
        orientation: 1 to 8 as in EXIF: how the stored image must be turned to stand upright.
        turned: The decoder turns the pixels itself, whatever the flags; OpenCV does so with TIFF.
    """

    sides: tuple[int, int]
    orientation: int
    turned: bool

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the upright image in pixels."""
        width, height = self.sides
        return (height, width) if self.orientation > 4 else (width, height)


def is_image(path: Path) -> bool:
    """Tell by its extension whether ``path`` names an image."""
    return path.suffix.lower() in EXTENSIONS


def decode(path: Path, channels: int = 3) -> NDArray[np.uint8]:
    """Return the pixels of an image file, turned as its EXIF orientation says.

    Args:
        path: The file.
        channels: 1 reads it as grey, 3 as BGR; any other number takes the channels that the file has, e.g. BGR and alpha, or
            the pages of a grey TIFF. Of 16 bits the upper 8 are taken.

    Returns:
        Shape (height, width, channels), uint8.

    Raises:
        DataError: The file is missing or no regular file, does not decode, has more than :data:`MAX_PIXELS` pixels, or
            another number of channels.
    """
    with _opened(path) as file:
        content = file.read()
    head = _head(io.BytesIO(content), path)
    try:
        # what Pillow does not know, OpenCV turns if it can
        bytes_ = np.frombuffer(content, dtype=np.uint8)
        pixels = read_pixels(bytes_, channels, turned=head is None) if content else None
    except cv2.error:  # a format of OpenCV's own that is broken or too large
        pixels = None
    if pixels is None:
        raise _undecoded(path)
    check_channels(pixels, channels, path)
    return pixels if head is None or head.turned else _upright(pixels, head.orientation)


def image_size(path: Path) -> tuple[int, int]:
    """Return (width, height) of an image in pixels as :func:`decode` gives them, from the file's head where possible.

    Raises:
        DataError: The file is missing or no regular file, is no image, or has more than :data:`MAX_PIXELS` pixels.
    """
    with _opened(path) as file:
        head = _head(file, path)
    if head is not None:
        return head.size
    height, width = decode(path).shape[:2]  # formats that only OpenCV reads
    return width, height


def readable_images(paths: list[Path], skipped: list[Path] | None) -> list[Path]:
    """Return the images that decode, in their order.

    Args:
        paths: Image files.
        skipped: Takes the images that do not decode; None leaves ``paths`` as they are, unread.
    """
    if skipped is None:
        return paths
    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="yoloqat-images") as pool:
        whole = dict(zip(paths, pool.map(_decodes, paths), strict=True))
    skipped += [path for path in paths if not whole[path]]
    return [path for path in paths if whole[path]]


def _decodes(path: Path) -> bool:
    try:
        decode(path)
    except DataError:
        return False
    return True


def _opened(path: Path) -> BinaryIO:
    """Open a regular file; a pipe or a device is never opened, for it may never end."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            reason = "it is no regular file"
        elif status.st_size > MAX_BYTES:
            reason = f"it has {status.st_size} bytes, more than {MAX_BYTES}"
        else:
            return path.open("rb")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
    raise DataError(
        f"image '{path}' cannot be read ({reason})",
        expected="a readable image file",
        hint="restore it or take it off the list",
    )


def _undecoded(path: Path) -> DataError:
    return DataError(
        f"image '{path}' does not decode",
        expected="a whole image file",
        hint="restore it, take it off the list, or pass `skipped`",
    )


def _head(file: BinaryIO, path: Path) -> _Head | None:
    """Read the head of an image file; None where Pillow does not know the format."""
    try:
        with Image.open(file) as image:
            tiff = image.format == "TIFF"
            # Pillow's size of a TIFF is turned in some versions and as stored in others
            sides = tuple(int(image.tag_v2[tag]) for tag in _TIFF_SIDES) if tiff else image.size  # type: ignore[attr-defined]
            head = _Head((sides[0], sides[1]), _orientation(image, file), tiff)
    except Image.DecompressionBombError as error:
        raise _bomb(path, str(error)) from error
    except Exception:  # whatever Pillow and its plugins make of a strange file
        return None
    if head.sides[0] * head.sides[1] > MAX_PIXELS:
        raise _bomb(path, f"{head.sides[0]} x {head.sides[1]} pixels")
    return head


def _bomb(path: Path, size: str) -> DataError:
    return DataError(
        f"image '{path}' is too large ({size})",
        expected=f"at most {MAX_PIXELS} pixels",
        hint="cut or shrink it, or take it off the list",
    )


def _orientation(image: Image.Image, file: BinaryIO) -> int:
    """Return the orientation by EXIF, or by the TIFF's own tag; 1 where there is none or none that is valid.

    Of AVIF, Pillow gives the file's rotation and mirroring as EXIF. XMP does not count, nor does it for OpenCV.
    """
    if image.format == "TIFF":
        found = image.tag_v2.get(_ORIENTATION)  # type: ignore[attr-defined]
    else:
        content = image.info.get("exif") or (_late_exif(file) if image.format == "PNG" else b"")
        exif = Image.Exif()
        try:
            exif.load(content)
            found = exif.get(_ORIENTATION)
        except Exception:  # a damaged tag is no tag
            found = None
    return found if type(found) is int and 1 <= found <= 8 else 1


def _late_exif(file: BinaryIO) -> bytes:
    """Return the EXIF of a PNG that stands behind the pixels, which Pillow alone finds by decoding them."""
    position, kind = 8, b""
    while kind != b"IEND":
        file.seek(position)
        start = file.read(8)
        if len(start) < 8:
            break
        length, kind = struct.unpack(">I4s", start)
        if kind == b"eXIf":
            return file.read(length)
        position += 12 + length
    return b""


def _upright(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn an image that is stored in an orientation."""
    if orientation > 4:
        image = image.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


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
            hint="check the path",
        )


def _unreadable(error: OSError) -> None:
    raise DataError(
        f"image directory '{error.filename}' cannot be read ({error.strerror})",
        expected="a readable directory of images",
        hint="check its permissions",
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
            hint="name the directory that holds the images",
        )
    return found
