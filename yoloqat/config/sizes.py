"""Sizes of a detector's input: one side for a square, or height and width."""

from __future__ import annotations

from yoloqat.config.checks import check_int
from yoloqat.errors import ConfigError

ImageSize = int | tuple[int, int]
"""Side of a square, or (height, width), in pixels. A square is kept as one number, so that settings compare equal."""

LEAST, GREATEST = 32, 8192
MAX_PIXELS = 1 << 29
"""Pixels of one batch, about 1300 images of 640 x 640; a larger one is a typing error."""


def checked_imgsz(value: object, low: int = LEAST) -> ImageSize:
    """Return an image size as settings keep it.

    Args:
        value: A side, or a list or tuple of height and width.
        low: The least side in pixels.

    Raises:
        ConfigError: It is neither, or a side is out of range.
    """
    pair = list(value) if isinstance(value, list | tuple) else [value]
    if len(pair) not in (1, 2):
        raise ConfigError(
            f"imgsz is {value!r}", expected="one side, or height and width", hint="set `imgsz` to e.g. 640 or 384 640"
        )
    for side in pair:
        check_int("imgsz", side, low, GREATEST)
    return pair[0] if len(set(pair)) == 1 else (pair[0], pair[1])  # type: ignore[return-value]


def sides(imgsz: ImageSize) -> tuple[int, int]:
    """Return (height, width) of an image size in pixels."""
    return (imgsz, imgsz) if isinstance(imgsz, int) else imgsz


def json_size(imgsz: ImageSize) -> int | list[int]:
    """Return an image size as JSON gives it back, so that what is read compares equal."""
    return imgsz if isinstance(imgsz, int) else list(imgsz)


def size_text(imgsz: ImageSize) -> str:
    """Return an image size as a person reads it, ``640`` or ``384 x 640``."""
    return str(imgsz) if isinstance(imgsz, int) else f"{imgsz[0]} x {imgsz[1]}"


def square_side(imgsz: ImageSize, *, reason: str, hint: str) -> int:
    """Return the side of a size that must be a square.

    Args:
        imgsz: The size.
        reason: What it is for, where only a square is possible.
        hint: What to do about it.

    Raises:
        ConfigError: Height and width differ.
    """
    if isinstance(imgsz, int):
        return imgsz
    raise ConfigError(f"imgsz is {size_text(imgsz)} for {reason}", expected="one side of a square", hint=hint)


def check_pixels(imgsz: ImageSize, batch: int) -> None:
    """Check that a batch of images is one that a machine can hold.

    Raises:
        ConfigError: It has more than :data:`MAX_PIXELS` pixels.
    """
    height, width = sides(imgsz)
    if batch * height * width > MAX_PIXELS:
        raise ConfigError(
            f"batch is {batch} images of {height} x {width} pixels",
            expected=f"at most {MAX_PIXELS // (height * width)} images of that size",
            hint="set `batch` to fewer",
        )
