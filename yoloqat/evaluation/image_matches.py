"""What matching one image gives, small enough to keep for every image of every model of a scan."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yoloqat.errors import DataError


@dataclass(frozen=True, eq=False)
class ImageMatches:
    """The scored detections of one image, by category and falling score.

    Attributes:
        columns: Index of each detection's category among the scored ones, shape (detections,), int16.
        scores: Confidences, shape (detections,), float32.
        correct: Bit t: it matches an object at threshold t; shape (detections,), uint16.
        ignored: Bit t: it counts neither way at threshold t; shape (detections,), uint16.
    """

    columns: NDArray[np.int16]
    scores: NDArray[np.float32]
    correct: NDArray[np.uint16]
    ignored: NDArray[np.uint16]


_COLUMNS = (("columns", "<i2"), ("scores", "<f4"), ("correct", "<u2"), ("ignored", "<u2"))


def pack(images: Sequence[ImageMatches | None]) -> bytes:
    """Return the matches of some images as compressed bytes, about 4 per detection; None stays None."""
    counts = np.array([-1 if image is None else len(image.scores) for image in images], dtype="<i4")
    there = [image for image in images if image is not None]
    parts = [np.array([len(images)], dtype="<i4").tobytes(), counts.tobytes()]
    for name, kind in _COLUMNS:
        parts += [getattr(image, name).astype(kind).tobytes() for image in there]
    return zlib.compress(b"".join(parts), 1)


def unpack(blob: bytes) -> list[ImageMatches | None]:
    """Read what :func:`pack` returned.

    Raises:
        DataError: The bytes are damaged.
    """
    try:
        content = zlib.decompress(blob)
        (images,) = np.frombuffer(content, "<i4", 1)
        counts = np.frombuffer(content, "<i4", images, 4)
        total, start = int(counts[counts > 0].sum()), 4 + 4 * int(images)
        columns = []
        for _, kind in _COLUMNS:
            columns.append(np.frombuffer(content, kind, total, start))
            start += total * np.dtype(kind).itemsize
    except (zlib.error, ValueError) as error:
        raise DataError(
            f"{len(blob)} bytes of matches cannot be read ({error})",
            expected="what was stored",
            hint="remove the study and scan again",
        ) from error
    found: list[ImageMatches | None] = []
    begin = 0
    for count in counts.tolist():
        found.append(None if count < 0 else ImageMatches(*(column[begin : begin + count] for column in columns)))
        begin += max(count, 0)
    return found
