"""Pixels for models of any number of input channels, as Ultralytics reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from yoloqat.errors import DataError

_FLAGS = {1: cv2.IMREAD_GRAYSCALE, 3: cv2.IMREAD_COLOR}
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read_pixels(content: NDArray[np.uint8], channels: int, *, turned: bool = False) -> NDArray[np.uint8] | None:
    """Decode an image as it is stored; OpenCV turns a TIFF nevertheless.

    Args:
        content: The bytes of the file, shape (bytes,), at least one.
        channels: 1 reads it as grey, 3 as BGR; any other number takes the channels that the file has: BGR and alpha, say, or
            the pages of a grey TIFF. Of 16 bits the upper 8 are taken.
        turned: Turn grey and BGR images as the file's orientation says, where OpenCV knows it.

    Returns:
        Shape (height, width, channels that were found), or None where it does not decode.
    """
    image: NDArray[Any] | None = None
    if channels in _FLAGS:
        image = cv2.imdecode(content, _FLAGS[channels] | (0 if turned else cv2.IMREAD_IGNORE_ORIENTATION))
    elif content[:4].tobytes() in _TIFF:
        _, pages = cv2.imdecodemulti(content, cv2.IMREAD_UNCHANGED)
        alike = len({page.shape for page in pages}) == 1
        image = np.stack(pages, axis=2) if alike and pages[0].ndim == 2 else pages[0] if pages else None
    else:
        image = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    if image is not None and image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    return image[:, :, None] if image is not None and image.ndim == 2 else image


def check_channels(image: NDArray[Any], channels: int, path: Path) -> None:
    """Check that a decoded image is one that a model of so many channels takes.

    Args:
        image: From :func:`read_pixels`.
        channels: Of the model.
        path: Of the image, for messages.

    Raises:
        DataError: It has another number of channels, or other numbers than bytes.
    """
    if image.shape[2] != channels or image.dtype != np.uint8:
        raise DataError(
            f"image '{path}' has {image.shape[2]} channels of {image.dtype}",
            expected=f"{channels} channels of 8 or 16 bits, as the model takes",
            hint="take images like those that the model was trained on",
        )
