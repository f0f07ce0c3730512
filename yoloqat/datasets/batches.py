"""Batches of letterboxed images, in an order and composition that depend on nothing but the data set and the settings.

Composition matters: an integer engine's outputs for an image may depend on its batch, so a resumed or repeated
evaluation must form the same batches.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from yoloqat.config.checks import check_int
from yoloqat.config.sizes import ImageSize, checked_imgsz, sides, square_side
from yoloqat.datasets.images import decode
from yoloqat.datasets.letterbox import Letterboxed, centre_crop, letterbox
from yoloqat.datasets.records import ImageRecord
from yoloqat.errors import DataError

RECT_MARGIN = 0.5
"""Strides added to a rectangular canvas, as the validator of Ultralytics does."""


@dataclass(frozen=True)
class BatchPlan:
    """Which images form a batch, and on what canvas.

    Attributes:
        records: The images.
        imgsz: Long side of a letterboxed image in pixels.
        shape: (height, width) of the canvas in pixels.
        channels: Of the images that the detector takes.
        cropped: Each image is cut to the proportions of the canvas, which it then fills without padding.
    """

    records: tuple[ImageRecord, ...]
    imgsz: int
    shape: tuple[int, int]
    channels: int = 3
    cropped: bool = False


@dataclass(frozen=True)
class Batch:
    """A batch that is ready for a detector.

    Attributes:
        images: In [0, 1], RGB where there are three channels, shape (batch, channels, height, width), float32.
        records: The images' records.
        geometries: Where each image lies on its canvas.
    """

    images: NDArray[np.float32] = field(repr=False)
    records: tuple[ImageRecord, ...]
    geometries: tuple[Letterboxed, ...]


def plan_batches(
    records: Sequence[ImageRecord],
    imgsz: ImageSize,
    batch: int,
    *,
    rect: bool = False,
    stride: int = 32,
    channels: int = 3,
    cropped: bool = False,
) -> list[BatchPlan]:
    """Divide images into batches.

    Args:
        records: The images, in the order that square batches keep.
        imgsz: Side of the square canvas in pixels, or (height, width) of another; an image's long side becomes the longer.
        batch: Images per batch; the last batch may have fewer.
        rect: Sort the images by height to width and give every batch the smallest canvas for its images, of whole
            strides and with the margin that Ultralytics adds; else that of ``imgsz``.
        stride: The detector's largest stride in pixels.
        channels: Of the images that the detector takes.
        cropped: Cut each image to the proportions of the canvas instead of padding it.

    Raises:
        ConfigError: ``imgsz`` or ``batch`` is out of range, or ``rect`` is asked of a size that is no square.
    """
    imgsz = checked_imgsz(imgsz, low=1)
    check_int("batch", batch, 1)
    ordered = sorted(records, key=lambda record: record.height / record.width) if rect else list(records)
    groups = [tuple(ordered[start : start + batch]) for start in range(0, len(ordered), batch)]
    canvas = sides(imgsz)
    if rect:
        side = square_side(imgsz, reason="rectangular batches", hint="name the long side alone")
        shapes = [_rectangle(group, side, stride) for group in groups]
    else:
        shapes = [canvas] * len(groups)
    return [
        BatchPlan(group, max(canvas), shape, channels, cropped) for group, shape in zip(groups, shapes, strict=True)
    ]


def _rectangle(group: tuple[ImageRecord, ...], imgsz: int, stride: int) -> tuple[int, int]:
    ratios = [record.height / record.width for record in group]
    tall = max(ratios) if max(ratios) < 1 else 1.0
    wide = 1 / min(ratios) if min(ratios) > 1 else 1.0
    height, width = (math.ceil(side * imgsz / stride + RECT_MARGIN) * stride for side in (tall, wide))
    return height, width


def _prepared(record: ImageRecord, plan: BatchPlan) -> tuple[NDArray[np.uint8], Letterboxed]:
    image = decode(record.path, plan.channels)
    if image.shape[:2] != (record.height, record.width):
        raise DataError(
            f"image '{record.path}' is {image.shape[1]} x {image.shape[0]} pixels",
            expected=f"{record.width} x {record.height} as its annotations say",
            hint="take the images that the annotations were made for",
        )
    if plan.cropped:
        image = centre_crop(image, plan.shape)
    return letterbox(image, plan.imgsz, shape=plan.shape)


def _assembled(plan: BatchPlan, parts: Sequence[tuple[NDArray[np.uint8], Letterboxed]]) -> Batch:
    pixels = np.stack([image for image, _ in parts])
    images = np.divide(pixels, np.float32(255.0), dtype=np.float32)
    return Batch(images, plan.records, tuple(geometry for _, geometry in parts))


def read_batches(plans: Sequence[BatchPlan], *, workers: int = 2) -> Generator[Batch]:
    """Read the planned batches in order, decoding one batch ahead in threads.

    At most two batches of 8-bit images wait in memory beside the one that was handed out.

    Args:
        plans: What :func:`plan_batches` returned, or a part of it.
        workers: Threads that decode; OpenCV lets go of the interpreter's lock meanwhile.

    Yields:
        One batch per plan.

    Raises:
        DataError: An image does not decode, or is not of the size that its annotations say.
    """
    pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="yoloqat-images")

    def start(plan: BatchPlan) -> tuple[BatchPlan, list[Future[tuple[NDArray[np.uint8], Letterboxed]]]]:
        return plan, [pool.submit(_prepared, record, plan) for record in plan.records]

    waiting = iter(plans)
    try:
        ahead = deque(start(plan) for plan in islice(waiting, 2))
        while ahead:
            plan, futures = ahead.popleft()
            batch = _assembled(plan, [future.result() for future in futures])
            ahead.extend(start(following) for following in islice(waiting, 1))
            yield batch
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
