"""Training the tiny detector for an epoch or two."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tiny_detector import IMGSZ, NAMES
from torch import nn

from yoloqat.detectors import Detector
from yoloqat.finetuning import CheckpointManager, Figures, FinetuneConfig
from yoloqat.finetuning.distill import float_teacher
from yoloqat.finetuning.training_data import training_file
from yoloqat.finetuning.ultralytics import finetune_ultralytics
from yoloqat.pipeline.finetune import float_detector
from yoloqat.progress import Progress, silent

STATE = "state.safetensors"


def settings(**changes: Any) -> FinetuneConfig:
    """Two epochs of three steps."""
    return FinetuneConfig(**({"epochs": 2, "batch": 4, "imgsz": IMGSZ, "lr0": 1e-3} | changes))


def checkpoints(folder: Path, scores: list[float] | None = None) -> CheckpointManager:
    """A checkpoints to which the n-th model has the mAP n / 100, or ``scores[n]``."""

    def figures(*_: object) -> Figures:
        return Figures(scores[len(made.rows)] if scores else len(made.rows) / 100)

    made = CheckpointManager(folder, folder / STATE, figures)
    return made


def train(
    detector: Detector,
    config: FinetuneConfig,
    folder: Path,
    data: Path,
    *,
    scores: list[float] | None = None,
    norms: Mapping[str, nn.BatchNorm2d] | None = None,
    progress: Progress = silent,
) -> CheckpointManager:
    """Train a detector, going on where ``folder`` holds a state, and return what was kept."""
    made = checkpoints(folder, scores)
    teacher = float_teacher(copy.deepcopy(float_detector(detector).module)) if config.weights.distils else None
    state = made.start(detector)
    finetune_ultralytics(
        detector,
        training_file(data, folder / "data", NAMES),
        config,
        checkpoints=made,
        folder=folder / "logs",
        teacher=teacher,
        norms=norms,
        state=state,
        progress=progress,
    )
    return made


def outputs(detector: Detector) -> torch.Tensor:
    """What a detector predicts for fixed noise."""
    images = torch.rand(2, 3, IMGSZ, IMGSZ, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        result: torch.Tensor = detector.module(images)
    return result
