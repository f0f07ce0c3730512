"""The confidence at which a model has as many boxes as its float model, and whether it is another one beyond noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloqat.evaluation.changes import ImageChanges
from yoloqat.evaluation.interval import LEVEL, Resampling

_STEP = 0.01
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


@dataclass(frozen=True)
class Threshold:
    """What confidence threshold suits a quantized model.

    Attributes:
        conf: The threshold that the models work at.
        equal: The threshold, in steps of 0.01, at which the quantized model has as many boxes as the float model at ``conf``.
        equal_ci95: Its interval over the images; None of fewer than two.
        boxes_float: Boxes of the float model above ``conf``.
        boxes: Boxes of the quantized model above ``conf``.
        boxes_equal: Its boxes above ``equal``.
        f1: Agreement with the float model's boxes, 2 * pairs / (boxes of both), at ``conf``.
        f1_equal: The same with the quantized model at ``equal``.
    """

    conf: float
    equal: float
    equal_ci95: tuple[float, float] | None
    boxes_float: int
    boxes: int
    boxes_equal: int
    f1: float
    f1_equal: float

    @property
    def change(self) -> bool:
        """Whether to change the threshold: the interval excludes it, and the boxes agree no worse at the new one."""
        if self.equal_ci95 is None or self.equal == self.conf:
            return False
        low, high = self.equal_ci95
        return not low <= self.conf <= high and self.f1_equal >= self.f1

    @property
    def sentence(self) -> str:
        """What to do, in a sentence."""
        at = f"at {self.conf:g} it has {self.boxes} boxes where the float model has {self.boxes_float}"
        if self.change:
            ends = (
                "" if self.equal_ci95 is None else f" (95 % interval {self.equal_ci95[0]:g} to {self.equal_ci95[1]:g})"
            )
            return (
                f"set the quantized model's confidence threshold to {self.equal:g}{ends}: {at}, at {self.equal:g} it has "
                f"{self.boxes_equal}, and F1 against the float model's boxes goes from {self.f1:.3f} to {self.f1_equal:.3f}"
            )
        if not self.boxes_float:
            return f"no box of the float model is above {self.conf:g}, so that no threshold can be advised"
        if self.equal_ci95 is None:
            return f"one image cannot tell whether another threshold than {self.conf:g} is better"
        if not self.equal_ci95[0] <= self.conf <= self.equal_ci95[1]:
            return (
                f"keep the confidence threshold {self.conf:g}: at {self.equal:g} there would be as many boxes as the float model "
                f"has, but they agree less (F1 {self.f1:.3f} to {self.f1_equal:.3f})"
            )
        return f"keep the confidence threshold {self.conf:g}: {at}, which is within noise"

    def to_dict(self) -> dict[str, Any]:
        """Return it as a JSON-able dict; ``advised`` is the threshold to use."""
        return {
            "conf": self.conf,
            "advised": self.equal if self.change else self.conf,
            "change": self.change,
            "equal_boxes_conf": self.equal,
            "equal_boxes_conf_ci95": None if self.equal_ci95 is None else list(self.equal_ci95),
            "boxes_float": self.boxes_float,
            "boxes_quantized": self.boxes,
            "boxes_quantized_equal": self.boxes_equal,
            "f1": self.f1,
            "f1_equal": self.f1_equal,
            "advice": self.sentence,
        }


def threshold_for(images: Sequence[ImageChanges], conf: float, seed: int = 0) -> Threshold:
    """Return what confidence threshold suits a quantized model.

    Args:
        images: What changed in each image, at ``conf``.
        conf: The threshold that the models work at.
        seed: Seeds the bootstrap over images.
    """
    tried = np.unique(np.append(np.arange(1, 100) * _STEP, conf).round(6))
    boxes = np.stack([_above(image.scores, tried) for image in images])
    pairs = np.stack([_above(image.paired, tried) for image in images])
    sure = np.array([image.sure for image in images])
    at = int(np.abs(tried - conf).argmin())
    best = _equal(boxes.sum(axis=0)[None], sure.sum(keepdims=True), at)[0]
    interval = None
    if len(images) > 1:
        weights = Resampling(len(images), seed=seed).weights().T
        drawn = tried[_equal(weights @ boxes, weights @ sure, at)]
        low, high = np.percentile(drawn, [50.0 - LEVEL / 2, 50.0 + LEVEL / 2])
        interval = (min(float(low), float(tried[best])), max(float(high), float(tried[best])))
    total = int(sure.sum())

    def f1(index: int) -> float:
        both = total + int(boxes[:, index].sum())
        return 2.0 * float(pairs[:, index].sum()) / both if both else 1.0

    return Threshold(
        conf, float(tried[best]), interval, total, int(boxes[:, at].sum()), int(boxes[:, best].sum()), f1(at), f1(best)
    )


def _above(scores: NDArray[np.float64], tried: NDArray[np.float64]) -> NDArray[np.int64]:
    return len(scores) - np.searchsorted(np.sort(scores), tried, side="right")


def _equal(boxes: NDArray[np.int64], wanted: NDArray[np.int64], at: int) -> NDArray[np.intp]:
    """Return in each resample the threshold whose boxes are nearest to those wanted; of equal ones that nearest to ``at``."""
    apart = np.abs(boxes - wanted[:, None])
    steps = np.abs(np.arange(boxes.shape[1]) - at) / boxes.shape[1]
    nearest: NDArray[np.intp] = (apart + steps).argmin(axis=1)
    return nearest


def score_quantiles(images: Sequence[ImageChanges]) -> list[dict[str, float | None]]:
    """Return how the scores of objects that both models see are spread, by quantile.

    Args:
        images: What changed in each; of every object both scores count, on whichever side of the threshold they are.

    Returns:
        For each of :data:`QUANTILES` ``quantile, float, quantized, shift``, the last that of the quantized model minus that of
        the float model; empty where they have no object in common.
    """
    pairs = [
        (change.floating.score, change.other.score)
        for image in images
        for change in image.changes
        if change.floating is not None and change.other is not None and change.floating.label == change.other.label
    ]
    if not pairs:
        return []
    first, second = np.quantile(np.array(pairs), QUANTILES, axis=0).T.tolist()
    return [
        {"quantile": at, "float": a, "quantized": b, "shift": b - a}
        for at, a, b in zip(QUANTILES, first, second, strict=True)
    ]
