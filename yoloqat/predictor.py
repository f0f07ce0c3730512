"""What every runtime offers to the evaluator: images in, raw outputs out.

Torch modules, ONNX Runtime sessions and OpenVINO models are scored by the same code because each is wrapped
in an object that fulfils :class:`Predictor`. The protocol speaks NumPy, so that an engine needs no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]
"""Letterboxed images, RGB where they have three channels, shape (batch, channels, height, width), float32 in [0, 1]."""

RawOutputs = list[NDArray[np.float32]]
"""Raw outputs of a detector; the first is (batch, 4 + classes + extra, anchors), xywh in pixels and class scores, or
(batch, detections, 6 + extra) for an end-to-end head: x1, y1, x2, y2, score, class."""


@dataclass(frozen=True)
class ModelInfo:
    """What the evaluator must know of a model, whatever runs it.

    Attributes:
        names: Class index to class name, dense from 0.
        stride: Largest stride in pixels; both image sides must be multiples of it.
        task: Ultralytics task name, ``"detect"``, ``"segment"``, ...
        end2end: True when the head does its own NMS, so that none must follow.
        imgsz: Fixed (height, width) in pixels, or None when any multiple of the stride is taken.
        batch: Fixed batch size, or None when any is taken.
        channels: Of the images: 1 is grey, 3 is RGB, more are as the image files have them.
        conf: Score below which the model itself drops boxes, or None when it drops none or does not tell.
    """

    names: dict[int, str]
    stride: int = 32
    task: str = "detect"
    end2end: bool = False
    imgsz: tuple[int, int] | None = None
    batch: int | None = None
    channels: int = 3
    conf: float | None = None

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.names)


@runtime_checkable
class Predictor(Protocol):
    """A loaded detector that maps letterboxed images to raw outputs."""

    @property
    def info(self) -> ModelInfo:
        """Names, stride and fixed shapes of the model."""
        ...

    def __call__(self, images: Images) -> RawOutputs:
        """Run the model once on ``images`` and return its raw outputs, in the model's own order."""
        ...
