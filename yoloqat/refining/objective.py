"""The error of a detector's raw outputs that learning can follow: near to the noise d, with the boxes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from yoloqat.predictor import ModelInfo
from yoloqat.refining.blocks import Objective, relative_errors

BOXES = 1.6
"""Weight of the boxes' mean error, in largest strides, beside the noise d."""

LEAST = 1e-6
"""Sum of probabilities of an image in which the float model sees nothing at all."""


def detection_objective(info: ModelInfo) -> Objective:
    """Return the error of a detector's raw outputs against the float model's.

    It is the sum of the noise d (see :mod:`yoloqat.evaluation.fidelity`), of the distance of boxes in largest strides, and of
    the relative squared error of what a task adds, masks say; the last two weighted by the float model's highest class
    probability at each anchor, where there are anchors. A head that does its own NMS gives no anchors in a fixed order: its
    outputs count nothing.

    Args:
        info: Classes and largest stride of the detector.
    """
    last = 4 + info.classes

    def objective(outputs: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
        first, target = outputs[0], wanted[0]
        if info.end2end:
            return first.new_zeros(())
        q, p = first[:, 4:last], target[:, 4:last]
        error = ((q - p).abs().sum((1, 2)) / p.sum((1, 2)).clamp_min(LEAST)).mean()
        weight = p.amax(1)
        total = weight.sum(1).clamp_min(1.0)
        distance = (first[:, :4] - target[:, :4]).abs().mean(1) / info.stride
        error = error + BOXES * ((distance * weight).sum(1) / total).mean()
        if first.shape[1] > last:
            root = weight.sqrt()[:, None]
            error = error + relative_errors([first[:, last:] * root], [target[:, last:] * root])
        rest = list(zip(outputs[1:], wanted[1:], strict=True))
        return error + relative_errors(*zip(*rest, strict=True)) if rest else error

    return objective
