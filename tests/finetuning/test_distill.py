from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from yoloqat.detectors import Detector
from yoloqat.finetuning import LossWeights
from yoloqat.finetuning.distill import DistillingCriterion, box_loss, class_loss, feature_loss, float_teacher

BINS = 4


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_losses_are_zero_for_equals_and_positive_for_others(seed: int) -> None:
    scores, other = noise(seed, 2, 3, 5), noise(seed + 1, 2, 3, 5)
    boxes, moved = noise(seed + 2, 2, 4 * BINS, 5), noise(seed + 3, 2, 4 * BINS, 5)
    assert class_loss(scores, scores) == pytest.approx(0, abs=1e-9)
    assert class_loss(other, scores) > 0
    assert box_loss(boxes, boxes, scores, bins=BINS) == pytest.approx(0, abs=1e-9)
    assert box_loss(moved, boxes, scores, bins=BINS) > 0
    assert feature_loss([boxes], [boxes]) == 0
    assert feature_loss([moved], [boxes]) > 0


def test_class_loss_is_the_divergence_of_bernoulli_scores() -> None:
    ours, theirs = noise(0, 1, 2, 3), noise(1, 1, 2, 3) + 3
    p, q = theirs.sigmoid(), ours.sigmoid()
    expected = (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).sum() / p.amax(1).sum().clamp(min=1)
    assert class_loss(ours, theirs) == pytest.approx(float(expected))


def test_box_loss_counts_where_the_float_model_sees_objects() -> None:
    theirs = noise(0, 1, 4 * BINS, 2)
    ours = theirs.clone()
    ours[..., 1] = noise(1, 4 * BINS)  # differs at the second anchor alone
    seen = torch.tensor([[[-20.0, 8.0]]], dtype=torch.float64)
    unseen = torch.tensor([[[8.0, -20.0]]], dtype=torch.float64)
    p = theirs.view(4, BINS, 2).softmax(1)[..., 1]
    q = ours.view(4, BINS, 2).softmax(1)[..., 1]
    expected = (p * (p / q).log()).sum(1).mean() * seen.sigmoid()[0, 0, 1]
    assert box_loss(ours, theirs, seen, bins=BINS) == pytest.approx(float(expected))
    assert box_loss(ours, theirs, unseen, bins=BINS) < 1e-6


def test_box_loss_of_plain_distances() -> None:
    theirs, scores = torch.zeros(1, 4, 1), torch.full((1, 1, 1), 50.0)
    assert box_loss(theirs + 2, theirs, scores, bins=1) == pytest.approx(2.0)


def test_feature_loss_is_in_units_of_the_float_variance() -> None:
    theirs = noise(0, 2, 3, 4, 4)
    assert feature_loss([theirs * 7 + 7], [theirs * 7]) == pytest.approx(float(1 / theirs.var()), rel=1e-5)


class Head(nn.Module):
    def forward(self, images: Tensor) -> dict[str, Any]:
        return {"scores": images[:, :3].flatten(2), "boxes": images.flatten(2), "feats": [images]}


def criterion(weights: LossWeights, teacher: nn.Module | None) -> DistillingCriterion:
    def task(predictions: Any, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        loss = predictions["scores"].square().mean()
        return torch.stack([loss, loss]), {"task": loss.detach()}

    return DistillingCriterion(task, teacher, weights, bins=BINS)


def test_the_criterion_adds_what_has_a_weight() -> None:
    images = noise(0, 2, 4 * BINS, 3, 3).float()
    ours = Head()(images + 0.1 * noise(1, 2, 4 * BINS, 3, 3).float())
    batch = {"img": images}
    task, parts = criterion(LossWeights(task=1, outputs=0, features=0), None)(ours, batch)
    assert set(parts) == {"task"}
    total, parts = criterion(LossWeights(task=2, outputs=3, features=5), Head())(ours, batch)
    assert set(parts) == {"task", "distill_classes", "distill_boxes", "distill_features"}
    distilled = 3 * (parts["distill_classes"] + parts["distill_boxes"]) + 5 * parts["distill_features"]
    assert total == pytest.approx(float(2 * task + 2 * distilled), rel=1e-5)
    alone, parts = criterion(LossWeights(task=0, outputs=0, features=1), Head())(ours, batch)
    assert set(parts) == {"distill_features"}
    assert alone == pytest.approx(float(2 * parts["distill_features"]))


def test_gains_that_change_once_an_epoch_are_passed_on() -> None:
    class Task:
        updates = 0

        def update(self) -> None:
            self.updates += 1

    task = Task()
    DistillingCriterion(task, None, LossWeights(), bins=BINS).update()
    assert task.updates == 1
    assert not hasattr(criterion(LossWeights(), None), "update")


def test_the_teacher_gives_raw_predictions_and_no_gradient(detector: Detector) -> None:
    images = torch.rand(1, 3, 64, 64)
    raw = float_teacher(detector.module)(images)
    assert set(raw) == {"boxes", "scores", "feats"}
    assert not raw["scores"].requires_grad
    assert not any(module.training for name, module in detector.module.named_modules() if name != "model.9")


def test_training_steps_run_in_half_precision(detector: Detector) -> None:
    module = detector.module.train().requires_grad_(True)
    images = torch.rand(1, 3, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        raw = module(images)
    assert raw["scores"].dtype == torch.bfloat16
    F.mse_loss(raw["scores"].float(), torch.zeros_like(raw["scores"], dtype=torch.float32)).backward()
    assert module.model[0].conv.weight.grad.isfinite().all()
    assert module.model[0].conv.weight.grad.abs().sum() > 0
