"""Boxes, masks and keypoints drawn on images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeAlias

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Colour: TypeAlias = tuple[int, int, int]
Point: TypeAlias = tuple[float, float]

PALETTE: tuple[Colour, ...] = (
    (230, 85, 13), (49, 130, 189), (49, 163, 84), (214, 39, 119), (148, 103, 189), (190, 150, 20),
    (23, 158, 170), (140, 86, 75), (99, 121, 57), (222, 45, 38), (31, 80, 200), (120, 120, 120),
)  # fmt: skip
"""Colours of classes, repeated where there are more."""

_DASH, _PAD, _HEAD, _LINE = 6, 2, 24, 21
_INK = (20, 30, 40)
_MASK = 0.4
"""Opacity of a mask."""


@dataclass(frozen=True)
class Mark:
    """An object to draw.

    Attributes:
        outline: Corners in pixels of the image file: two of an upright box, or all of a polygon.
        colour: Red, green, blue.
        label: Text at the first corner, or nothing.
        dashed: A dashed outline, of something that is not there.
        width: Of the outline in pixels of the picture.
        mask: True inside the object, shape (height, width) of the image file; None where there is none.
        points: Keypoints in pixels of the image file.
    """

    outline: tuple[Point, ...]
    colour: Colour
    label: str = ""
    dashed: bool = False
    width: int = 2
    mask: NDArray[np.bool_] | None = None
    points: tuple[Point, ...] = ()


def class_colour(label: int) -> Colour:
    """Return the colour of a class by its index."""
    return PALETTE[label % len(PALETTE)]


def drawn(image: NDArray[np.uint8], marks: Sequence[Mark], *, longest: int | None = None, text: int = 0) -> Image.Image:
    """Return a picture of an image with marks on it.

    Args:
        image: Shape (height, width, channels), uint8, as :func:`yoloqat.datasets.images.decode` gives it: BGR where there are
            three channels, grey where there is one; of more the first is shown as grey.
        marks: What is drawn, the last on top, in pixels of the image.
        longest: Long side of the picture in pixels; None, or more than the image has, keeps its size.
        text: Height of labels in pixels; 0 takes one that suits the picture.

    Returns:
        RGB.
    """
    pixels = image[:, :, ::-1] if image.shape[2] == 3 else np.repeat(image[:, :, :1], 3, axis=2)
    pixels = _masked(pixels, [mark for mark in marks if mark.mask is not None])
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    scale = 1.0 if longest is None else min(1.0, longest / max(picture.size))
    if scale < 1.0:
        sides = (max(1, round(side * scale)) for side in picture.size)
        picture = picture.resize((next(sides), next(sides)), Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(picture)
    font = _font(text or min(22, max(11, max(picture.size) // 45)))
    for mark in marks:
        _outline(draw, mark, scale)
        radius = mark.width + 0.5
        for x, y in mark.points:
            at = (x * scale, y * scale)
            draw.ellipse((at[0] - radius, at[1] - radius, at[0] + radius, at[1] + radius), fill=mark.colour)
    placed: list[tuple[float, float, float, float]] = []
    for mark in reversed(marks):  # the labels of what lies on top come first, and all of them above all boxes
        if mark.label:
            placed.append(_label(draw, mark, scale, picture.size, font, placed))
    return picture


def beside(
    pictures: Sequence[tuple[str, Image.Image]], legend: Sequence[tuple[str, Colour]] = (), *, gap: int = 8
) -> Image.Image:
    """Return pictures side by side, each below its title.

    Args:
        pictures: Title and picture, of one height.
        legend: Below them, what each colour means; in several lines where it is wider than the pictures.
        gap: Pixels between the pictures.
    """
    height, (title_font, font) = pictures[0][1].height, (_font(15), _font(12))
    whole = sum(picture.width for _, picture in pictures) + gap * (len(pictures) - 1)
    spots, x, y = [], 2.0, 0
    for text, _ in legend:
        width = 16 + font.getlength(text) + 18
        if x > 2 and x + width > whole:
            x, y = 2.0, y + _LINE
        spots.append((x, y))
        x += width
    foot = height + _HEAD
    canvas = Image.new("RGB", (whole, foot + (y + _LINE if legend else 0)), (255, 255, 255))
    draw, left = ImageDraw.Draw(canvas), 0
    for title, picture in pictures:
        draw.text((left + 2, 3), title, fill=_INK, font=title_font)
        canvas.paste(picture, (left, _HEAD))
        left += picture.width + gap
    for (text, colour), (x, y) in zip(legend, spots, strict=True):
        draw.rectangle((x, foot + y + 5, x + 11, foot + y + 16), fill=colour)
        draw.text((x + 16, foot + y + 3), text, fill=_INK, font=font)
    return canvas


def _masked(pixels: NDArray[np.uint8], marks: Sequence[Mark]) -> NDArray[np.uint8]:
    if not marks:
        return pixels
    found = pixels.astype(np.float32)
    for mark in marks:
        found[mark.mask] = (1 - _MASK) * found[mark.mask] + _MASK * np.array(mark.colour, dtype=np.float32)
    return found.round().astype(np.uint8)


def _corners(mark: Mark) -> list[Point]:
    if len(mark.outline) != 2:
        return list(mark.outline)
    (x1, y1), (x2, y2) = mark.outline
    return [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]


def _outline(draw: ImageDraw.ImageDraw, mark: Mark, scale: float) -> None:
    corners = [(x * scale, y * scale) for x, y in _corners(mark)]
    for start, end in zip(corners, [*corners[1:], corners[0]], strict=True):
        length = math.dist(start, end)
        parts = max(1, round(length / _DASH)) if mark.dashed else 1
        for part in range(0, parts, 2):
            ends = [
                tuple(a + (b - a) * min(1.0, at / parts) for a, b in zip(start, end, strict=True))
                for at in (part, part + 1)
            ]
            draw.line([(ends[0][0], ends[0][1]), (ends[1][0], ends[1][1])], fill=mark.colour, width=mark.width)


def _label(
    draw: ImageDraw.ImageDraw,
    mark: Mark,
    scale: float,
    size: tuple[int, int],
    font: ImageFont.FreeTypeFont,
    placed: Sequence[tuple[float, float, float, float]],
) -> tuple[float, float, float, float]:
    """Write a label above its box, or where no other label is, and return the space it takes."""
    corners = _corners(mark)
    left, top, bottom = (
        min(x for x, _ in corners) * scale,
        min(y for _, y in corners) * scale,
        max(y for _, y in corners) * scale,
    )
    box = draw.textbbox((0, 0), mark.label, font=font)
    width, height = box[2] - box[0] + 2 * _PAD, box[3] - box[1] + 2 * _PAD
    x = max(0.0, min(left, size[0] - width))
    spots = []
    for y in (top - height, top, bottom, bottom - height, *(top + step * height for step in range(1, 6))):
        y = max(0.0, min(y, size[1] - height))
        spots.append((x, y, x + width, y + height))
    spot = next((spot for spot in spots if not any(_overlap(spot, other) for other in placed)), spots[0])
    draw.rectangle(spot, fill=mark.colour)
    bright = 0.299 * mark.colour[0] + 0.587 * mark.colour[1] + 0.114 * mark.colour[2] > 150
    draw.text(
        (spot[0] + _PAD - box[0], spot[1] + _PAD - box[1]),
        mark.label,
        fill=(0, 0, 0) if bright else (255, 255, 255),
        font=font,
    )
    return spot


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Return the font that matplotlib brings along, which has Latin, Greek and Cyrillic letters."""
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans-Bold.ttf")), size)
