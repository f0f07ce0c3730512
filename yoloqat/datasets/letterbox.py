"""Resizing an image into the detector's input, and boxes back out of it.

Bit for bit what the validator of Ultralytics does: first the long side becomes ``imgsz`` (up or down), then the image is
centred on a grey canvas, shrunk once more where the canvas is no square and too small for it. (Its predictor resizes once,
straight to the canvas, which gives slightly other pixels.) Every stage uses this one function, because a calibration on
differently prepared images measures other activations than those that are scored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from yoloqat.config.checks import check_int

PADDING = 114
"""Grey level of the canvas, of 255."""


@dataclass(frozen=True)
class Letterboxed:
    """Where a letterboxed image lies on its canvas.

    Attributes:
        original: (height, width) of the image file in pixels.
        shape: (height, width) of the canvas in pixels.
        gain: Canvas pixels per original pixel, (vertical, horizontal); they differ by the rounding of the sides.
        padding: (top, left) canvas pixels before the image begins.
    """

    original: tuple[int, int]
    shape: tuple[int, int]
    gain: tuple[float, float]
    padding: tuple[int, int]

    def to_original(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map boxes from the canvas to the image file.

        Args:
            boxes: Corners x1, y1, x2, y2 in canvas pixels, shape (boxes, 4), float32.

        Returns:
            New corners in pixels of the image file, clipped to it; same shape and dtype.
        """
        (gain_y, gain_x), (top, left), (height, width) = self.gain, self.padding, self.original
        offset = np.array([left, top, left, top], dtype=np.float32)
        gain = np.array([gain_x, gain_y, gain_x, gain_y], dtype=np.float32)
        limit = np.array([width, height, width, height], dtype=np.float32)
        mapped: NDArray[np.float32] = np.clip((boxes - offset) / gain, np.float32(0.0), limit)
        return mapped

    def points_to_original(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map points from the canvas to the image file, also those outside of it.

        Args:
            points: x, y in canvas pixels, shape (..., 2), float32.
        """
        (gain_y, gain_x), (top, left) = self.gain, self.padding
        offset, gain = np.array([left, top], dtype=np.float32), np.array([gain_x, gain_y], dtype=np.float32)
        mapped: NDArray[np.float32] = (points - offset) / gain
        return mapped


def _resize(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    if image.shape[:2] == (height, width):
        return image
    resized: NDArray[np.uint8] = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return resized if resized.ndim == image.ndim else resized[:, :, None]  # OpenCV drops a single channel


def _fit_long_side(image: NDArray[np.uint8], imgsz: int) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    ratio = imgsz / max(height, width)
    if ratio == 1.0:
        return image
    # the cap is needed: height * (imgsz / height) may come out a hair above imgsz
    return _resize(image, min(math.ceil(height * ratio), imgsz), min(math.ceil(width * ratio), imgsz))


def centre_crop(image: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the largest part around the centre of an image that has the proportions of a canvas, so that it needs no padding.

    Args:
        image: A decoded image, shape (height, width, channels).
        shape: (height, width) of the canvas in pixels.
    """
    height, width = image.shape[:2]
    ratio = min(height / shape[0], width / shape[1])
    rows, columns = max(round(shape[0] * ratio), 1), max(round(shape[1] * ratio), 1)
    top, left = (height - rows) // 2, (width - columns) // 2
    return image[top : top + rows, left : left + columns]


def letterbox(
    image: NDArray[np.uint8], imgsz: int, *, shape: tuple[int, int] | None = None
) -> tuple[NDArray[np.uint8], Letterboxed]:
    """Resize the long side of an image to ``imgsz`` and centre it on a grey canvas.

    Args:
        image: A decoded image as OpenCV gives it: (height, width, channels), uint8, BGR where it has three channels.
        imgsz: The long side in pixels.
        shape: (height, width) of the canvas, default the square of side ``imgsz``. An image that is still too large
            for it is shrunk once more, never enlarged.

    Returns:
        The canvas as (channels, height, width), uint8, contiguous, RGB where there are three channels, and where the image
        lies on it.

    Raises:
        ConfigError: ``imgsz`` is not a positive whole number.
    """
    check_int("imgsz", imgsz, 1)
    canvas = (imgsz, imgsz) if shape is None else shape
    original = (image.shape[0], image.shape[1])
    fitted = _fit_long_side(image, imgsz)
    first = (fitted.shape[0], fitted.shape[1])
    ratio = min(canvas[0] / first[0], canvas[1] / first[1], 1.0)
    fitted = _resize(fitted, max(round(first[0] * ratio), 1), max(round(first[1] * ratio), 1))
    vertical, horizontal = canvas[0] - fitted.shape[0], canvas[1] - fitted.shape[1]
    # of an odd margin the larger half goes below and to the right
    top, left = round(vertical / 2 - 0.1), round(horizontal / 2 - 0.1)
    result = np.full((image.shape[2], *canvas), PADDING, dtype=np.uint8)
    ordered = fitted[:, :, ::-1] if image.shape[2] == 3 else fitted
    result[:, top : top + fitted.shape[0], left : left + fitted.shape[1]] = ordered.transpose(2, 0, 1)
    gain = (first[0] / original[0] * ratio, first[1] / original[1] * ratio)
    return result, Letterboxed(original, canvas, gain, (top, left))
