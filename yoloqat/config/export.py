"""How a detector is written as ONNX."""

from __future__ import annotations

from dataclasses import dataclass

from yoloqat.config.checks import check_bool, check_fraction, check_int
from yoloqat.config.sizes import ImageSize, check_pixels, checked_imgsz
from yoloqat.config.target import UNNAMED, target_named
from yoloqat.errors import ConfigError

OPSETS = (13, 23)
"""The oldest and the newest operator set that is written."""

HALF_OPSET = 19
"""The first opset whose QuantizeLinear and DequantizeLinear take FP16."""


@dataclass(frozen=True)
class ExportConfig:
    """How a detector is written as ONNX.

    Attributes:
        imgsz: Side of the square input in pixels, or (height, width) of another.
        batch: Batch size of the input; with ``dynamic`` the size it is traced at.
        opset: Version of the standard ONNX operators, 13 to 23.
        dynamic: Leave the batch size open; height and width stay fixed.
        half: FP16 where nothing is quantized, with FP32 images and outputs. None takes what the target wants: FP16 for
            ``tensorrt``, FP32 for the others and where none is named; without a target it stays None.
        nms: Append NMS to the graph: the output is (batch, max_det, 6) instead of every anchor.
        nms_conf: Score that a box must exceed, with ``nms``.
        nms_iou: Overlap above which the less confident of two boxes of a class is dropped, with ``nms``.
        max_det: Detections per image, with ``nms``.
        target: The engine that will run the file, a name of :data:`yoloqat.config.target.TARGETS`, which the file's metadata
            keep; None takes the one that the detector was calibrated for, if any.

    Raises:
        ConfigError: A value is out of range, the target is unknown, ``half`` is asked for a target whose kernels have no FP16,
            or of an opset that has no FP16 quantizers.
    """

    imgsz: ImageSize = 640
    batch: int = 1
    opset: int = UNNAMED.opset
    dynamic: bool = False
    half: bool | None = None
    nms: bool = False
    nms_conf: float = 0.001
    nms_iou: float = 0.7
    max_det: int = 300
    target: str | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        object.__setattr__(self, "imgsz", checked_imgsz(self.imgsz, low=1))
        check_int("batch", self.batch, 1)
        check_pixels(self.imgsz, self.batch)
        check_int("opset", self.opset, *OPSETS)
        check_int("max_det", self.max_det, 1)
        for name in ("dynamic", "nms"):
            check_bool(name, getattr(self, name))
        if self.half is not None:
            check_bool("half", self.half)
        check_fraction("nms_conf", self.nms_conf)
        check_fraction("nms_iou", self.nms_iou)
        decided = target_named(self.target)
        if self.half and self.target is not None and not decided.half:
            raise ConfigError(
                f"half is {self.half} with target '{self.target}'",
                expected=f"FP32 where nothing is quantized, as {decided.title}'s kernels want it",
                hint="leave one of the two out",
            )
        wanted = "" if self.target is None or self.half else f", as target '{self.target}' wants it"
        if self.half is None and self.target is not None:
            object.__setattr__(self, "half", decided.half)
        if self.half and self.opset < HALF_OPSET:
            raise ConfigError(
                f"opset is {self.opset} with half={self.half}{wanted}",
                expected=f"opset {HALF_OPSET} or newer, whose quantizers take FP16",
                hint=f"use `opset={HALF_OPSET}`",
            )
