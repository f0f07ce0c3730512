"""How a detector is scored."""

from __future__ import annotations

from dataclasses import dataclass

from yoloqat.config.checks import check_bool, check_fraction, check_int
from yoloqat.config.sizes import ImageSize, check_pixels, checked_imgsz, square_side


@dataclass(frozen=True)
class EvalConfig:
    """How a detector is scored; the defaults are those of Ultralytics' validator.

    Attributes:
        imgsz: Side of the square letterbox in pixels, or (height, width) of another.
        batch: Images per forward.
        conf: Detections of at most this confidence are dropped.
        nms_iou: Boxes of one class that overlap more than this are removed by NMS.
        max_det: Detections kept per image.
        rect: Letterbox to the smallest rectangle of each batch instead of the square.

    Raises:
        ConfigError: A value is out of range.
    """

    imgsz: ImageSize = 640
    batch: int = 8
    conf: float = 0.001
    nms_iou: float = 0.7
    max_det: int = 300
    rect: bool = False

    def __post_init__(self) -> None:
        """Check the values."""
        object.__setattr__(self, "imgsz", checked_imgsz(self.imgsz))
        check_int("batch", self.batch, 1)
        check_pixels(self.imgsz, self.batch)
        check_fraction("conf", self.conf)
        check_fraction("nms_iou", self.nms_iou)
        check_int("max_det", self.max_det, 1)
        check_bool("rect", self.rect)
        if self.rect:
            square_side(
                self.imgsz, reason="rectangular batches", hint="leave out `rect`, or set `imgsz` to the long side"
            )
