"""How detections are looked at."""

from __future__ import annotations

from dataclasses import dataclass

from yoloqat.config.checks import check_fraction, check_int
from yoloqat.config.evaluation import EvalConfig
from yoloqat.config.sizes import ImageSize


@dataclass(frozen=True)
class DiffConfig:
    """How the detections of two models are compared.

    Attributes:
        conf: The confidence threshold that the models work at.
        moved: A box that overlaps the float model's by less than this IoU has moved.
        pictures: Images of which a picture is drawn: those where the two models disagree most.

    Raises:
        ConfigError: A value is out of range.
    """

    conf: float = 0.25
    moved: float = 0.75
    pictures: int = 12

    def __post_init__(self) -> None:
        """Check the values."""
        check_fraction("conf", self.conf)
        check_fraction("moved", self.moved)
        check_int("pictures", self.pictures, 0)


@dataclass(frozen=True)
class PredictConfig:
    """Which detections a prediction holds.

    Attributes:
        conf: Detections of at most this confidence are dropped.
        iou: Boxes of one class that overlap more than this are removed by NMS.
        max_det: Detections kept per image.
        batch: Images per forward.

    Raises:
        ConfigError: A value is out of range.
    """

    conf: float = 0.25
    iou: float = 0.7
    max_det: int = 300
    batch: int = 1

    def __post_init__(self) -> None:
        """Check the values."""
        check_fraction("conf", self.conf)
        check_fraction("iou", self.iou)
        check_int("max_det", self.max_det, 1)
        check_int("batch", self.batch, 1)

    def scoring(self, imgsz: ImageSize) -> EvalConfig:
        """Return the settings of a forward and its NMS at an image size."""
        return EvalConfig(imgsz=imgsz, batch=self.batch, conf=self.conf, nms_iou=self.iou, max_det=self.max_det)
