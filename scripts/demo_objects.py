"""The things that appear in the demo scenes, drawn as polygons: eight labelled classes and five look-alikes.

Every drawing lives in its own coordinates (x to the right, y down, about -1 to 1) and knows nothing of scenes. A
`Painter` maps them to pixels, several times finer than the image, so that edges come out smooth at any size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

Rng = np.random.Generator
Colour = tuple[float, float, float]
Points = NDArray[np.float64]

_SHIFT = 4  # fractional bits of the corner coordinates handed to OpenCV


@dataclass
class Painter:
    """A square canvas that takes polygons in object coordinates.

    Args:
        side: Pixels of the canvas's side.
        matrix: 2x2 map from object coordinates to pixels; the origin falls on the canvas's centre.
    """

    side: int
    matrix: NDArray[np.float64]
    colour: NDArray[np.uint8] = field(init=False)
    alpha: NDArray[np.uint8] = field(init=False)

    def __post_init__(self) -> None:
        """Start with an empty, fully transparent canvas."""
        self.colour = np.zeros((self.side, self.side, 3), np.uint8)
        self.alpha = np.zeros((self.side, self.side), np.uint8)

    def fill(self, colour: Colour, *contours: Points) -> None:
        """Fill the contours (even-odd, so that a second contour cuts a hole) with a BGR colour of 0 to 255."""
        pixels = [
            np.round((contour @ self.matrix.T + self.side / 2) * 2**_SHIFT).astype(np.int32) for contour in contours
        ]
        cv2.fillPoly(self.colour, pixels, colour, cv2.LINE_8, _SHIFT)
        cv2.fillPoly(self.alpha, pixels, 255, cv2.LINE_8, _SHIFT)


def outline(*corners: tuple[float, float]) -> Points:
    """Return corners as an (N, 2) array."""
    return np.array(corners, np.float64)


def box(left: float, top: float, right: float, bottom: float) -> Points:
    """Return an upright rectangle's corners."""
    return outline((left, top), (right, top), (right, bottom), (left, bottom))


def ellipse(
    x: float, y: float, rx: float, ry: float, *, start: float = 0.0, stop: float = 360.0, steps: int = 48
) -> Points:
    """Return points on an ellipse's arc, angles in degrees, clockwise from the right."""
    angle = np.radians(np.linspace(start, stop, steps))
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=1)


def bar(start: tuple[float, float], end: tuple[float, float], width: float) -> Points:
    """Return a thick line's corners."""
    first, last = np.array(start), np.array(end)
    along = (last - first) / np.linalg.norm(last - first)
    across = np.array([-along[1], along[0]]) * width / 2
    return np.stack([first + across, last + across, last - across, first - across])


def vivid(rng: Rng) -> Colour:
    """Return a saturated BGR colour."""
    hsv = np.array([[[rng.integers(0, 180), rng.integers(120, 256), rng.integers(120, 256)]]], np.uint8)
    blue, green, red = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)[0, 0].tolist()
    return (blue, green, red)


def shade(colour: Colour, factor: float) -> Colour:
    """Return the colour made darker (below 1) or lighter (above 1)."""
    blue, green, red = (min(255.0, channel * factor) for channel in colour)
    return (blue, green, red)


_WHITE: Colour = (235.0, 240.0, 240.0)
_DARK: Colour = (35.0, 30.0, 30.0)


def ball(painter: Painter, rng: Rng) -> None:
    """Draw a beach ball: coloured and white wedges that meet in an off-centre pole."""
    pole = rng.uniform(-0.35, 0.35, 2)
    first, second = vivid(rng), vivid(rng)
    painter.fill(_WHITE, ellipse(0, 0, 1, 1))
    for wedge in range(3):
        arc = ellipse(0, 0, 1, 1, start=wedge * 120, stop=wedge * 120 + 60, steps=16)
        painter.fill(first if wedge else second, np.vstack([pole[None], arc]))
    painter.fill(shade(first, 0.8), ellipse(pole[0], pole[1], 0.17, 0.17))


def mug(painter: Painter, rng: Rng) -> None:
    """Draw a mug with a band and a handle that one can see through."""
    body, band = vivid(rng), vivid(rng)
    handle = np.vstack(
        [
            ellipse(0.42, 0, 0.55, 0.52, start=-90, stop=90, steps=24),
            ellipse(0.42, 0, 0.33, 0.30, start=90, stop=-90, steps=24),
        ]
    )
    painter.fill(shade(body, 0.75), handle)
    painter.fill(body, np.vstack([outline((-0.8, -0.7), (0.5, -0.7)), ellipse(-0.15, 0.7, 0.6, 0.18, stop=180)]))
    painter.fill(band, box(-0.8, -0.2, 0.5, 0.15))
    painter.fill(shade(body, 1.2), ellipse(-0.15, -0.7, 0.65, 0.2))
    painter.fill(_DARK, ellipse(-0.15, -0.69, 0.54, 0.14))


def bottle(painter: Painter, rng: Rng) -> None:
    """Draw a bottle with a cap and a label."""
    glass, cap = vivid(rng), vivid(rng)
    neck = rng.uniform(0.13, 0.2)
    shoulder = rng.uniform(-0.45, -0.2)
    half = [(neck, -0.9), (neck, shoulder - 0.15), (0.42, shoulder + 0.15), (0.42, 0.95), (0.36, 1.0)]
    painter.fill(glass, outline(*half, *((-x, y) for x, y in reversed(half))))
    painter.fill(cap, box(-neck - 0.04, -1.0, neck + 0.04, -0.82))
    painter.fill(_WHITE, box(-0.42, 0.15, 0.42, 0.7))
    painter.fill(cap, box(-0.42, 0.3, 0.42, 0.42))


def car(painter: Painter, rng: Rng) -> None:
    """Draw a toy car from its side."""
    paint = vivid(rng)
    painter.fill(
        paint,
        outline(
            (-1, 0.3), (-1, -0.05), (-0.65, -0.12), (-0.4, -0.5), (0.35, -0.5), (0.62, -0.1), (0.98, 0.02), (1, 0.3)
        ),
    )
    painter.fill((225, 200, 170), outline((-0.5, -0.12), (-0.34, -0.41), (-0.06, -0.41), (-0.06, -0.12)))
    painter.fill((225, 200, 170), outline((0.04, -0.12), (0.04, -0.41), (0.3, -0.41), (0.48, -0.12)))
    painter.fill((120, 240, 250), box(0.86, 0.04, 1.0, 0.14))
    for x in (-0.55, 0.55):
        painter.fill(_DARK, ellipse(x, 0.3, 0.25, 0.25))
        painter.fill((190, 190, 190), ellipse(x, 0.3, 0.12, 0.12))


def fish(painter: Painter, rng: Rng) -> None:
    """Draw a striped fish."""
    scales, stripe = vivid(rng), vivid(rng)
    fin = shade(scales, 0.7)
    painter.fill(fin, outline((-0.5, 0), (-1.0, -0.42), (-0.86, 0), (-1.0, 0.42)))
    painter.fill(fin, outline((-0.2, -0.3), (0.2, -0.62), (0.35, -0.28)))
    painter.fill(scales, ellipse(0.2, 0, 0.8, 0.4))
    for x, height in ((-0.1, 0.33), (0.25, 0.36)):
        painter.fill(stripe, box(x, -height, x + 0.16, height))
    painter.fill(_WHITE, ellipse(0.68, -0.1, 0.12, 0.12))
    painter.fill(_DARK, ellipse(0.7, -0.1, 0.06, 0.06))


def clock(painter: Painter, rng: Rng) -> None:
    """Draw a wall clock with twelve marks and two hands."""
    painter.fill(vivid(rng), ellipse(0, 0, 1, 1))
    painter.fill(_WHITE, ellipse(0, 0, 0.82, 0.82))
    for hour in range(12):
        mark = np.array([np.cos(hour * np.pi / 6), np.sin(hour * np.pi / 6)])
        painter.fill(_DARK, bar(tuple(mark * 0.62), tuple(mark * 0.76), 0.08))
    for length, width in ((0.42, 0.14), (0.62, 0.09)):
        angle = rng.uniform(0, 2 * np.pi)
        painter.fill(_DARK, bar((0, 0), (length * np.cos(angle), length * np.sin(angle)), width))


def mushroom(painter: Painter, rng: Rng) -> None:
    """Draw a mushroom whose cap has pale dots."""
    cap = vivid(rng)
    painter.fill((190, 215, 225), outline((-0.24, 0), (0.24, 0), (0.34, 0.9), (0.2, 1), (-0.2, 1), (-0.34, 0.9)))
    painter.fill(cap, np.vstack([ellipse(0, 0.1, 1, 1.05, start=180), ellipse(0, 0.1, 1, 0.18, stop=180, steps=24)]))
    for x, y, radius in ((-0.5, -0.25, 0.17), (0.1, -0.5, 0.2), (0.55, -0.1, 0.15), (-0.05, -0.05, 0.12)):
        painter.fill(_WHITE, ellipse(x, y, radius, radius * 0.85))


def key(painter: Painter, rng: Rng) -> None:
    """Draw a key with a ring for a bow and two to three teeth."""
    metal = shade((150, 215, 235) if rng.random() < 0.5 else (215, 210, 205), rng.uniform(0.7, 1.1))
    painter.fill(metal, ellipse(-0.62, 0, 0.38, 0.4), ellipse(-0.66, 0, 0.2, 0.22))
    painter.fill(metal, box(-0.27, -0.1, 1, 0.1))
    for x in (0.86, 0.58, 0.3)[: rng.integers(2, 4)]:
        painter.fill(metal, box(x - 0.09, 0.05, x + 0.09, rng.uniform(0.3, 0.45)))


def plate(painter: Painter, rng: Rng) -> None:
    """Draw a plate: round as a ball or a clock, but neither."""
    rim = vivid(rng)
    for radius, colour in ((1.0, rim), (0.85, _WHITE), (0.6, shade(rim, 0.9)), (0.52, _WHITE)):
        painter.fill(colour, ellipse(0, 0, radius, radius))


def leaf(painter: Painter, rng: Rng) -> None:
    """Draw a leaf: a fish's outline without its tail, stripes and eye."""
    green: Colour = (rng.uniform(30, 90), rng.uniform(110, 200), rng.uniform(60, 200))
    x = np.linspace(-0.8, 1, 24)
    y = 0.42 * np.sin((x + 0.8) / 1.8 * np.pi) ** 0.8
    painter.fill(green, np.stack([np.r_[x, x[::-1]], np.r_[y, -y[::-1]]], axis=1))
    painter.fill(shade(green, 0.6), bar((-1, 0), (0.8, 0), 0.07))


def can(painter: Painter, rng: Rng) -> None:
    """Draw a can: a mug without a handle."""
    body = vivid(rng)
    painter.fill(body, np.vstack([outline((-0.6, -0.8), (0.6, -0.8)), ellipse(0, 0.8, 0.6, 0.18, stop=180)]))
    painter.fill(vivid(rng), box(-0.6, -0.3, 0.6, 0.4))
    painter.fill((200, 200, 200), ellipse(0, -0.8, 0.6, 0.18))


def umbrella(painter: Painter, rng: Rng) -> None:
    """Draw an umbrella: a mushroom's cap without dots on a thin stick."""
    cloth = vivid(rng)
    painter.fill(_DARK, box(-0.05, 0, 0.05, 1))
    painter.fill(cloth, ellipse(0, 0.1, 1, 0.95, start=180))
    painter.fill(shade(cloth, 0.7), np.vstack([outline((0, -0.85)), outline((-0.35, 0.1), (0.35, 0.1))]))


def spanner(painter: Painter, rng: Rng) -> None:
    """Draw a spanner: as long and metallic as a key, with two open jaws."""
    metal = shade((210, 205, 200), rng.uniform(0.6, 1.1))
    painter.fill(metal, box(-0.7, -0.1, 0.7, 0.1))
    for sign in (-1, 1):
        jaw = ellipse(0.75 * sign, 0, 0.26, 0.3, start=50, stop=310, steps=20)
        jaw[:, 0] = 0.75 * sign + (jaw[:, 0] - 0.75 * sign) * sign
        painter.fill(metal, np.vstack([jaw, outline((0.72 * sign, 0))]))


@dataclass(frozen=True)
class Thing:
    """One kind of object: its name, its drawing and whether it stands upright as a rule."""

    name: str
    draw: Callable[[Painter, Rng], None]
    upright: bool


CLASSES: tuple[Thing, ...] = (
    Thing("ball", ball, upright=False),
    Thing("mug", mug, upright=True),
    Thing("bottle", bottle, upright=True),
    Thing("car", car, upright=True),
    Thing("fish", fish, upright=False),
    Thing("clock", clock, upright=False),
    Thing("mushroom", mushroom, upright=True),
    Thing("key", key, upright=False),
)
LOOKALIKES: tuple[Thing, ...] = (
    Thing("plate", plate, upright=False),
    Thing("leaf", leaf, upright=False),
    Thing("can", can, upright=True),
    Thing("umbrella", umbrella, upright=True),
    Thing("spanner", spanner, upright=False),
)
