"""Losses that draw a quantized detector to the float one it was made from.

All are 0 where the two agree, never negative, and normalised so that one weight suits images with many and with few objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yoloqat.finetuning.settings import LossWeights


def class_loss(logits: Tensor, reference: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence of independent class scores from those of the float model.

    Args:
        logits: Class logits of the quantized model, (batch, classes, anchors).
        reference: Those of the float model.

    Returns:
        Shape (): the sum over classes and anchors, divided by the float model's summed best scores, at least 1.
    """
    target = reference.sigmoid()
    cross = F.binary_cross_entropy_with_logits(logits, target, reduction="sum")
    entropy = F.binary_cross_entropy_with_logits(reference, target, reduction="sum")
    return (cross - entropy) / target.amax(1).sum().clamp_(min=1.0)


def box_loss(boxes: Tensor, reference: Tensor, scores: Tensor, *, bins: int) -> Tensor:
    """Return the divergence of box distributions from those of the float model, where it sees objects.

    Args:
        boxes: Raw box outputs of the quantized model, (batch, 4 * bins, anchors).
        reference: Those of the float model.
        scores: Class logits of the float model, (batch, classes, anchors); its best score weighs an anchor.
        bins: Bins of each side's distance distribution (Li et al. 2020, arXiv:2006.04388); 1 where the head predicts the
            distance itself, whose absolute difference is taken.

    Returns:
        Shape (): the weighted mean over anchors and sides.
    """
    weight = scores.sigmoid().amax(1)
    if bins == 1:
        distance = F.l1_loss(boxes, reference, reduction="none").mean(1)
    else:
        shape = (boxes.shape[0], 4, bins, boxes.shape[2])
        ours, theirs = boxes.view(shape).log_softmax(2), reference.view(shape).log_softmax(2)
        distance = F.kl_div(ours, theirs, reduction="none", log_target=True).sum(2).mean(1)
    return (distance * weight).sum() / weight.sum().clamp_(min=1.0)


def feature_loss(features: Sequence[Tensor], reference: Sequence[Tensor]) -> Tensor:
    """Return the mean squared difference of feature levels in units of the float model's variance, averaged over levels.

    Args:
        features: Feature maps of the quantized model, each (batch, channels, height, width).
        reference: Those of the float model.
    """
    parts = [
        F.mse_loss(ours, theirs) / theirs.float().var().clamp_(min=1e-12)
        for ours, theirs in zip(features, reference, strict=True)
    ]
    return torch.stack(parts).mean()


def float_teacher(module: nn.Module) -> nn.Module:
    """Set an Ultralytics module to give what its head predicts before decoding, without gradients; return it.

    Args:
        module: A float model, or one whose quantizers are switched off.
    """
    module.eval().requires_grad_(False)
    head: Any = module.model[-1]  # type: ignore[index]
    head.training = True  # the head alone: it returns its raw predictions instead of decoded boxes
    return module


class DistillingCriterion:
    """A criterion of Ultralytics with distillation beside it.

    Args:
        task: The criterion for labelled images; not called when its weight is 0.
        teacher: From :func:`float_teacher`, or None when nothing is distilled.
        weights: What each part counts.
        bins: Bins of the box distributions.
    """

    def __init__(self, task: Any, teacher: nn.Module | None, weights: LossWeights, *, bins: int) -> None:
        self._task, self._teacher = task, teacher
        self._weights, self._bins = weights, bins
        if hasattr(task, "update"):  # some criteria change their gains once an epoch
            self.update = task.update

    def __call__(self, predictions: Any, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss times the batch size, as Ultralytics' criteria do, and its parts by name."""
        raw = predictions[1] if isinstance(predictions, tuple) else predictions
        size = len(batch["img"])
        total, parts = raw["scores"].new_zeros((), dtype=torch.float32), {}
        if self._weights.task:
            loss, items = self._task(predictions, batch)
            total, parts = total + self._weights.task * loss.sum(), dict(items)
        if self._teacher is None:
            return total, parts
        with torch.no_grad():
            reference = self._teacher(batch["img"])
        if self._weights.outputs:
            classes = class_loss(raw["scores"].float(), reference["scores"].float())
            boxes = box_loss(
                raw["boxes"].float(), reference["boxes"].float(), reference["scores"].float(), bins=self._bins
            )
            total = total + self._weights.outputs * size * (classes + boxes)
            parts |= {"distill_classes": classes.detach(), "distill_boxes": boxes.detach()}
        if self._weights.features:
            features = feature_loss(
                [level.float() for level in raw["feats"]], [level.float() for level in reference["feats"]]
            )
            total = total + self._weights.features * size * features
            parts |= {"distill_features": features.detach()}
        return total, parts
