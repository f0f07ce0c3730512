"""Scenes of the demo data set: objects on clutter, seen through an imperfect camera. Seeded, NumPy and OpenCV only.

A scene is a pure function of its seed: a background, objects from the far to the near, light, and last the camera
(blur, noise, sensor faults). Labels are read off the object that each pixel ended up showing, as in COCO: the box
and the area are those of the visible part.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from demo_objects import CLASSES, LOOKALIKES, Colour, Painter, Rng, Thing, vivid
from numpy.typing import NDArray

Image = NDArray[np.float32]

LONG_SIDE = 320
_SHAPES = ((240, 320), (320, 240), (320, 320))
_SHAPE_SHARES = (0.6, 0.2, 0.2)
_EXTENT_PIXELS = (24.0, 200.0)  # an object's largest extent, log-uniform between these
_LEAST_VISIBLE = 0.5  # of an object's own pixels, or the placement is dropped
_LEAST_PIXELS = 40
_TRIES = (5, 16)
FAULT_SHARE = 0.08  # of the pictures


@dataclass(frozen=True)
class Label:
    """One visible object: class index, box in pixels (left, top, width, height) and visible area in pixels."""

    category: int
    box: tuple[int, int, int, int]
    area: int


@dataclass(frozen=True)
class Scene:
    """A rendered picture, uint8 BGR of shape (height, width, 3), and its labels."""

    pixels: NDArray[np.uint8]
    labels: tuple[Label, ...]


def _smooth_noise(rng: Rng, height: int, width: int, cells: int) -> Image:
    grid = rng.standard_normal((max(2, cells * height // width), max(2, cells))).astype(np.float32)
    return cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)


def _muted(rng: Rng) -> NDArray[np.float32]:
    return np.float32(rng.uniform(50, 190)) + rng.uniform(-40, 40, 3).astype(np.float32)


def _pattern(rng: Rng, canvas: Image) -> None:
    """Lay planks, tiles, cloth or pebbles over the canvas, in place."""
    height, width = canvas.shape[:2]
    kind = rng.integers(0, 5)
    step = int(rng.integers(14, 60))
    strength = float(rng.uniform(10, 40))
    if kind == 0:  # planks
        for top in range(0, height, step):
            canvas[top : top + step] += rng.uniform(-strength, strength)
            canvas[top : top + 2] -= strength
    elif kind == 1:  # tiles
        rows, columns = np.arange(height) // step, np.arange(width) // step
        canvas += (((rows[:, None] + columns) % 2) * strength)[..., None].astype(np.float32)
    elif kind == 2:  # cloth
        wave = np.sin((np.arange(width) + np.arange(height)[:, None] * rng.uniform(-1, 1)) * 2 * np.pi / step)
        canvas += (np.sign(wave) * strength / 2)[..., None].astype(np.float32)
    elif kind == 3:  # pebbles
        for _ in range(60):
            centre = (int(rng.integers(0, width)), int(rng.integers(0, height)))
            axes = (int(rng.integers(2, 12)), int(rng.integers(2, 9)))
            cv2.ellipse(canvas, centre, axes, rng.uniform(0, 180), 0, 360, _muted(rng).tolist(), -1, cv2.LINE_AA)


def _clutter(rng: Rng, canvas: Image) -> None:
    """Scatter translucent scraps and strokes that belong to no class, in place."""
    height, width = canvas.shape[:2]
    for _ in range(int(rng.integers(3, 18))):
        layer = canvas.copy()
        centre = rng.uniform((0, 0), (width, height))
        reach = rng.uniform(6, 60)
        points = (centre + rng.uniform(-reach, reach, (int(rng.integers(3, 6)), 2))).astype(np.int32)
        colour: Colour = vivid(rng) if rng.random() < 0.4 else tuple(_muted(rng).tolist())
        if rng.random() < 0.5:
            cv2.fillPoly(layer, [points], colour, cv2.LINE_AA)
        else:
            cv2.polylines(layer, [points], False, colour, int(rng.integers(1, 5)), cv2.LINE_AA)
        opacity = float(rng.uniform(0.25, 0.9))
        cv2.addWeighted(layer, opacity, canvas, 1 - opacity, 0, dst=canvas)


def background(rng: Rng, height: int, width: int) -> Image:
    """Return a cluttered background, float32 BGR of about 0 to 255."""
    ramp = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    canvas = np.ascontiguousarray(np.broadcast_to(_muted(rng) * (1 - ramp) + _muted(rng) * ramp, (height, width, 3)))
    for cells, strength in ((4, 14.0), (16, 8.0), (64, 6.0)):
        canvas += _smooth_noise(rng, height, width, cells)[..., None] * np.float32(rng.uniform(0, strength))
    _pattern(rng, canvas)
    _clutter(rng, canvas)
    return canvas


def _matrix(rng: Rng, thing: Thing, scale: float) -> NDArray[np.float64]:
    turn = rng.normal(0, 0.15) if thing.upright and rng.random() < 0.85 else rng.uniform(-np.pi, np.pi)
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    stretch = rng.uniform(0.85, 1.15)
    shear = rng.uniform(-0.15, 0.15)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return scale * rotation @ np.array([[mirror * stretch, shear], [0.0, 1.0 / stretch]])


def sprite(rng: Rng, thing: Thing, extent: float, light: float) -> tuple[Image, Image]:
    """Return an object's colour (side, side, 3), shaded, and its coverage (side, side) of 0 to 1.

    Args:
        rng: Chooses colours, pose and gloss.
        thing: What to draw.
        extent: About the pixels of its longer side.
        light: Direction the light comes from, in radians.
    """
    side = int(np.ceil(extent * 1.8)) + 2
    fine = 4 if extent < 60 else 2
    painter = Painter(side * fine, _matrix(rng, thing, extent / 2 * fine))
    thing.draw(painter, rng)
    colour, alpha = painter.colour.astype(np.float32), painter.alpha.astype(np.float32) / 255
    y, x = (np.mgrid[:side, :side].astype(np.float32) - side / 2) / np.float32(extent / 2)
    toward = x * np.cos(light) + y * np.sin(light)
    size = (side, side)
    coverage = cv2.resize(alpha, size, interpolation=cv2.INTER_AREA)
    premultiplied = cv2.resize(colour * alpha[..., None], size, interpolation=cv2.INTER_AREA)
    shaded = premultiplied / np.maximum(coverage, 1e-3)[..., None] * (1 + 0.3 * toward)[..., None]
    gloss = np.exp(-((x - 0.4 * np.cos(light)) ** 2 + (y - 0.4 * np.sin(light)) ** 2) / 0.04)
    shaded += (gloss * rng.uniform(0, 110))[..., None].astype(np.float32)
    return shaded.astype(np.float32), coverage


def _overlap(corner: int, side: int, limit: int) -> tuple[slice, slice]:
    first, last = max(corner, 0), min(corner + side, limit)
    return slice(first, last), slice(first - corner, last - corner)


def _blend(canvas: Image, colour: Image | float, coverage: Image, *, left: int, top: int) -> None:
    side = coverage.shape[0]
    rows, own_rows = _overlap(top, side, canvas.shape[0])
    columns, own_columns = _overlap(left, side, canvas.shape[1])
    opacity = coverage[own_rows, own_columns, None]
    paint = colour if isinstance(colour, float) else colour[own_rows, own_columns]
    canvas[rows, columns] += opacity * (paint - canvas[rows, columns])


def _place(rng: Rng, canvas: Image, owner: NDArray[np.int32], sizes: list[tuple[int, int]], light: float) -> None:
    """Put one more object in front of the others, unless it would hide one of them too far or leave the picture."""
    height, width = owner.shape
    lookalike = rng.random() < 0.3
    category = -1 if lookalike else int(rng.integers(len(CLASSES)))
    thing = LOOKALIKES[int(rng.integers(len(LOOKALIKES)))] if lookalike else CLASSES[category]
    extent = float(np.exp(rng.uniform(*np.log(_EXTENT_PIXELS))))
    colour, coverage = sprite(rng, thing, extent, light)
    side = coverage.shape[0]
    left = int(rng.integers(-side // 3, width - 2 * side // 3 + 1))
    top = int(rng.integers(-side // 3, height - 2 * side // 3 + 1))
    rows, own_rows = _overlap(top, side, height)
    columns, own_columns = _overlap(left, side, width)
    solid = coverage[own_rows, own_columns] > 0.5
    pixels = int((coverage > 0.5).sum())
    if solid.sum() < max(_LEAST_PIXELS, _LEAST_VISIBLE * pixels):
        return
    after = owner.copy()
    after[rows, columns][solid] = len(sizes)
    visible = np.bincount(after[after >= 0], minlength=len(sizes) + 1)
    if any(seen < max(_LEAST_PIXELS, _LEAST_VISIBLE * whole) for seen, (_, whole) in zip(visible, sizes, strict=False)):
        return
    reach = max(1, round(extent * 0.06))
    drop = (-round(reach * np.cos(light)), -round(reach * np.sin(light)))
    shadow = cv2.GaussianBlur(coverage, (0, 0), reach) * np.float32(rng.uniform(0.1, 0.6))
    _blend(canvas, 15.0, shadow, left=left + drop[0], top=top + drop[1])
    _blend(canvas, colour, coverage, left=left, top=top)
    owner[:] = after
    sizes.append((category, pixels))


def _labels(owner: NDArray[np.int32], sizes: list[tuple[int, int]]) -> tuple[Label, ...]:
    found = []
    for index, (category, _) in enumerate(sizes):
        if category < 0:
            continue
        seen = (owner == index).astype(np.uint8)
        left, top, width, height = cv2.boundingRect(seen)
        found.append(Label(category, (int(left), int(top), int(width), int(height)), int(seen.sum())))
    return tuple(found)


def _illuminate(rng: Rng, canvas: Image) -> Image:
    """Return the canvas under its light: a slope, a tint, and an exposure from night through fog to glare."""
    height, width = canvas.shape[:2]
    slope = rng.uniform(-0.3, 0.3, 2)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    field = (1 + slope[0] * x + slope[1] * y)[..., None] * rng.uniform(0.88, 1.12, 3)
    lit = canvas * field.astype(np.float32)
    mode = rng.random()
    if mode < 0.22:  # night
        lit *= np.float32(rng.uniform(0.14, 0.4))
    elif mode < 0.40:  # fog
        air = np.float32(rng.uniform(90, 210))
        lit = air + (lit - air) * np.float32(rng.uniform(0.16, 0.45))
    elif mode < 0.47:  # too long an exposure
        lit *= np.float32(rng.uniform(1.4, 1.9))
    return lit


def _camera(rng: Rng, canvas: Image) -> Image:
    """Return the canvas blurred by focus or motion, with shot and read noise."""
    kind = rng.random()
    if kind < 0.2:  # motion
        length = int(rng.integers(3, 8))
        kernel = np.zeros((length, length), np.float32)
        angle = rng.uniform(0, np.pi)
        reach = np.array([np.cos(angle), np.sin(angle)]) * (length - 1) / 2
        middle = (length - 1) / 2
        ends = np.round(np.stack([middle - reach, middle + reach])).astype(int).tolist()
        cv2.line(kernel, ends[0], ends[1], 1.0, 1)
        canvas = cv2.filter2D(canvas, -1, kernel / kernel.sum())
    else:
        canvas = cv2.GaussianBlur(canvas, (0, 0), float(rng.uniform(0.35, 1.1)))
    read = rng.uniform(0.5, 3.5)
    noise = rng.standard_normal(canvas.shape).astype(np.float32)
    return canvas + noise * np.sqrt(read**2 + 0.06 * np.maximum(canvas, 0)).astype(np.float32)


def _fault(rng: Rng, canvas: Image) -> None:
    """Let the sensor fail for a moment, in place: a few rows alternate between black and a full colour."""
    height, width = canvas.shape[:2]
    rows, length = int(rng.integers(2, 5)), int(rng.integers(6, 15))
    top, left = int(rng.integers(0, height - rows)), int(rng.integers(0, width - length))
    stripes = 255.0 * (np.arange(length) // int(rng.integers(1, 3)) % 2)
    canvas[top : top + rows, left : left + length] = stripes[None, :, None] * rng.choice([0.0, 1.0], 3, p=(0.3, 0.7))


def render(*seed: int) -> Scene:
    """Render the scene that belongs to a seed.

    Args:
        seed: Non-negative integers; here the data set's seed, the split's number and the image's index.

    Returns:
        The picture, 320 pixels on its long side, and its labels; the same for the same seed.
    """
    rng = np.random.default_rng(seed)
    height, width = _SHAPES[rng.choice(len(_SHAPES), p=_SHAPE_SHARES)]
    light = float(rng.uniform(-np.pi, 0))
    canvas = background(rng, height, width)
    owner = np.full((height, width), -1, np.int32)
    sizes: list[tuple[int, int]] = []
    for _ in range(int(rng.integers(*_TRIES))):
        _place(rng, canvas, owner, sizes, light)
    canvas = _camera(rng, np.clip(_illuminate(rng, canvas), 0, 255))
    if rng.random() < FAULT_SHARE:
        _fault(rng, canvas)
    return Scene(np.clip(np.round(canvas), 0, 255).astype(np.uint8), _labels(owner, sizes))
