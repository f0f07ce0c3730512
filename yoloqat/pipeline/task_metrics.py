"""Masks, keypoints and rotated boxes of a model on a data set."""

from __future__ import annotations

from typing import Any

from yoloqat.config import EvalConfig
from yoloqat.datasets import DetectionDataset, task_labels
from yoloqat.errors import ConfigError
from yoloqat.evaluation.task_metrics import TaskImage, check_has_metrics, task_metrics
from yoloqat.predictor import ModelInfo, Predictor


def check_task(info: ModelInfo, config: EvalConfig) -> None:
    """Check that a model's task has metrics of its own and that they can be had as asked, before work that takes long.

    Raises:
        ConfigError: Rectangular batches were asked for.
        ModelError: The task has no such metric.
    """
    check_has_metrics(info)
    if config.rect:
        raise ConfigError(
            f"rect is {config.rect} for the metrics of the task '{info.task}'",
            expected="the square letterbox",
            hint="leave out `rect` or `task_metrics`",
        )


def score_task(predictor: Predictor, dataset: DetectionDataset, config: EvalConfig) -> dict[str, Any]:
    """Score what COCO's boxes leave out, by the validator of Ultralytics for the model's task.

    Args:
        predictor: The model, in whatever runtime.
        dataset: Images and labels; images with an object that lacks a label of the task are left out.
        config: How to score; the letterbox is that of the settings.

    Returns:
        The metrics, and ``images``, how many were scored.

    Raises:
        ConfigError: Rectangular batches were asked for.
        DataError: The names do not match, or no image has a label of the task.
        ModelError: The task has no such metric.
    """
    check_task(predictor.info, config)
    labels = task_labels(dataset, predictor.info.task, predictor.info.names)
    images = [TaskImage(record.path, lines) for record, lines in labels.items()]
    found = task_metrics(
        predictor,
        images,
        imgsz=config.imgsz,
        batch=config.batch,
        conf=config.conf,
        iou=config.nms_iou,
        max_det=config.max_det,
        kpt_shape=dataset.kpt_shape,
    )
    return found | {"images": len(images)}
