"""Frames of a video as batches for a detector."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from yoloqat.config.sizes import ImageSize, sides
from yoloqat.datasets.batches import Batch
from yoloqat.datasets.letterbox import letterbox
from yoloqat.datasets.records import ImageRecord
from yoloqat.errors import DataError

EXTENSIONS = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"})
"""Extensions of video files in lower case."""

_USUAL_RATE = 25.0


@dataclass(frozen=True)
class VideoFile:
    """A video that can be read.

    Attributes:
        path: The file.
        rate: Frames per second.
        frames: How many frames its head tells of; 0 where it does not.
    """

    path: Path
    rate: float
    frames: int


def is_video(path: Path) -> bool:
    """Tell by its extension whether ``path`` names a video."""
    return path.suffix.lower() in EXTENSIONS


@contextmanager
def _silenced() -> Iterator[None]:
    """Keep what a library in C writes to the process's standard error to itself within the block."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    capture = None
    if path.is_file():
        with _silenced():  # FFmpeg tells of a broken file in lines of its own
            capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        if capture is None or not capture.isOpened():
            raise DataError(
                f"video '{path}' {'cannot be read' if path.is_file() else 'is no file'}",
                expected="a video that OpenCV opens",
                hint="check the file, or convert it to MP4 with H.264",
            )
        yield capture
    finally:
        if capture is not None:
            capture.release()


def open_video(path: Path) -> VideoFile:
    """Return what the head of a video tells.

    Raises:
        DataError: OpenCV does not open it.
    """
    with _opened(path) as capture:
        rate, frames = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
        return VideoFile(path, float(rate) if 0 < rate < 1000 else _USUAL_RATE, max(0, int(frames)))


def read_frames(
    path: Path, imgsz: ImageSize, batch: int, *, channels: int = 3
) -> Generator[tuple[Batch, list[NDArray[np.uint8]]]]:
    """Read the frames of a video in batches.

    Args:
        path: The file.
        imgsz: Side of the square canvas in pixels, or (height, width) of another.
        batch: Frames per batch; the last may have fewer.
        channels: Of the images that the detector takes: 1 or 3.

    Yields:
        A batch, whose records count the frames from 1, and the frames as they are: (height, width, 3), uint8, BGR.

    Raises:
        DataError: OpenCV does not open the file, it has no frame, or the detector takes other images.
    """
    if channels not in (1, 3):
        raise DataError(
            f"video '{path}' has frames of 3 channels, and the model takes images of {channels}",
            expected="a model of 1 or 3 channels",
            hint="name images of as many channels",
        )
    waiting: list[NDArray[np.uint8]] = []
    done = 0
    with _opened(path) as capture:
        while True:
            more, frame = capture.read()
            if more:
                waiting.append(frame)
            if waiting and (len(waiting) == batch or not more):
                yield _batch(path, waiting, done, imgsz, channels), waiting
                done, waiting = done + len(waiting), []
            if not more:
                break
    if not done:
        raise DataError(
            f"video '{path}' has no frame that decodes", expected="a video of at least one", hint="check the file"
        )


def _batch(path: Path, frames: list[NDArray[np.uint8]], done: int, imgsz: ImageSize, channels: int) -> Batch:
    canvas = sides(imgsz)
    taken = [cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)[..., None] if channels == 1 else frame for frame in frames]
    parts = [letterbox(frame, max(canvas), shape=canvas) for frame in taken]
    pixels = np.stack([image for image, _ in parts])
    records = tuple(
        ImageRecord(path, done + number, frame.shape[1], frame.shape[0]) for number, frame in enumerate(frames, start=1)
    )
    images = np.divide(pixels, np.float32(255.0), dtype=np.float32)
    return Batch(images, records, tuple(geometry for _, geometry in parts))
