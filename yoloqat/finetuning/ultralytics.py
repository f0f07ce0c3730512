"""Fine-tuning of an Ultralytics detector on Ultralytics' own trainer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from yoloqat.detectors import Detector
from yoloqat.detectors.ultralytics import FAMILY
from yoloqat.detectors.ultralytics_import import environment_kept, quiet, ultralytics_module
from yoloqat.errors import ConfigError
from yoloqat.finetuning.checkpoints import CheckpointManager
from yoloqat.finetuning.group import Group, leave_group
from yoloqat.finetuning.norms import fold, unfold
from yoloqat.finetuning.randomness import generators_kept
from yoloqat.finetuning.ranges import check_calibrated
from yoloqat.finetuning.settings import FinetuneConfig
from yoloqat.finetuning.state import TrainingState
from yoloqat.finetuning.trainer import TRAINERS, Session, refused, trainer_class
from yoloqat.progress import Progress, silent
from yoloqat.provenance.plain_yaml import parse_yaml

DEFAULTS: dict[str, Any] = {
    "lrf": 0.01,
    "cos_lr": True,
    "warmup_epochs": 0.0,
    "mosaic": 0.0,
    "close_mosaic": 0,
    "scale": 0.2,
    "plots": False,
}
"""Differences from Ultralytics' own defaults, which are for training from scratch; any of it can be passed through."""

OWN = [
    "batch",
    "cfg",
    "compile",
    "data",
    "device",
    "dis",
    "distill_model",
    "epochs",
    "exist_ok",
    "imgsz",
    "lr0",
    "mode",
    "model",
    "name",
    "optimizer",
    "patience",
    "pretrained",
    "profile",
    "project",
    "quantize",
    "resume",
    "save",
    "save_dir",
    "save_period",
    "seed",
    "single_cls",
    "split",
    "task",
    "time",
    "val",
]
"""Arguments of Ultralytics' trainer that are set by ours, or have no meaning here."""


def parse_arguments(arguments: tuple[str, ...]) -> dict[str, Any]:
    """Read ``KEY=VALUE`` arguments for Ultralytics' trainer.

    Raises:
        ConfigError: One is malformed, unknown to Ultralytics, or set elsewhere.
    """
    known = ultralytics_module("utils").DEFAULT_CFG_DICT
    parsed: dict[str, Any] = {}
    for argument in arguments:
        key, separator, text = argument.partition("=")
        if not separator or key not in known:
            raise ConfigError(
                f"the training argument is '{argument}'",
                expected="KEY=VALUE with a KEY of Ultralytics' trainer",
                hint="write e.g. mosaic=0.5",
            )
        if key in OWN:
            raise ConfigError(
                f"the training argument is '{argument}'",
                expected=f"not {key}, which yoloqat sets itself",
                hint="take it out; where fine-tuning has a setting of its own for it, use that",
            )
        try:
            parsed[key], _ = parse_yaml(text)
        except ValueError as error:
            raise ConfigError(
                f"the training argument is '{argument:.200}' ({error})",
                expected="a plain value",
                hint="write e.g. mosaic=0.5",
            ) from error
    return parsed


def training_arguments(config: FinetuneConfig, device: torch.device) -> dict[str, Any]:
    """Return the arguments of Ultralytics' trainer that the user and our defaults choose.

    Raises:
        ConfigError: One is malformed, unknown to Ultralytics, set elsewhere, or needs another device.
    """
    arguments = DEFAULTS | parse_arguments(config.arguments)
    if arguments.get("amp") == "bf16" and device.type != "cuda":
        raise ConfigError(
            f"amp is bf16 on the device '{device}'", expected="a CUDA device", hint="leave it out, or name a GPU"
        )
    return arguments


def check_trainable(detector: Detector) -> None:
    """Check that Ultralytics' trainer can fine-tune a detector.

    Raises:
        ConfigError: It is of another family or task, or end-to-end: the branch that only training needs was folded away.
        CalibrationError: A quantizer has no range yet.
    """
    info = detector.info
    if detector.family != FAMILY or info.task not in TRAINERS or info.end2end:
        kind = f"{detector.family}, {info.task}{', end-to-end' if info.end2end else ''}"
        raise ConfigError(
            f"'{detector.source.path}' cannot be fine-tuned on Ultralytics' trainer ({kind})",
            expected=f"an Ultralytics detector for {' or '.join(TRAINERS)} that is not end-to-end",
            hint="fine-tune it by distillation alone with `SupervisionConfig.stride=1`",
        )
    check_calibrated(detector.module)


def finetune_ultralytics(
    detector: Detector,
    data: Path,
    config: FinetuneConfig,
    *,
    checkpoints: CheckpointManager,
    folder: Path,
    teacher: nn.Module | None = None,
    norms: Mapping[str, nn.BatchNorm2d] | None = None,
    device: torch.device | None = None,
    group: Group | None = None,
    state: TrainingState | None = None,
    progress: Progress = silent,
) -> None:
    """Fine-tune a calibrated detector; its epochs are scored and kept by ``checkpoints``.

    Args:
        detector: Calibrated; its module is trained in place.
        data: A data set YAML as Ultralytics reads it, from :func:`yoloqat.finetuning.training_data.training_file`.
        config: How.
        checkpoints: Scores and keeps every epoch.
        folder: Where Ultralytics keeps ``args.yaml``, ``results.csv`` and what its loggers write.
        teacher: The float model to distil from, see :func:`yoloqat.finetuning.distill.float_teacher`.
        norms: The float model's batch-norms, see :func:`yoloqat.finetuning.norms.unfold`, to keep them through the training;
            they are folded again wherever the model is scored or saved, and at the end.
        device: Where to train.
        group: This process's place among those that train together, see :class:`yoloqat.finetuning.group.Group`; the checkpoint
            manager of the first one alone is used.
        state: Of an interrupted run of the same settings.
        progress: Notified of every finished step.

    Raises:
        ConfigError: An argument is unknown, the detector is end-to-end, or its weights have no scale per channel to keep
            batch-norms with.
        CalibrationError: A quantizer has no range, or one stopped being finite and above 0 while training.
        ModelError: The loss is no longer finite, or the batch-norms are of another model.
        DataError: Ultralytics cannot use the data set.
        OutputError: A checkpoint cannot be written.
    """
    check_trainable(detector)
    device = device or torch.device("cpu")
    threads = torch.get_num_threads()
    overrides = training_arguments(config, device)
    overrides |= {
        "task": detector.info.task,
        "model": detector.source.path,
        "data": str(data),
        "epochs": config.epochs,
        "batch": config.batch,
        "nbs": overrides.get("nbs", config.batch),
        "imgsz": config.imgsz,
        "lr0": config.lr0,
        "optimizer": config.optimizer,
        "patience": 0,  # the checkpoint manager stops early, by COCO mAP and noise
        "seed": config.seed,
        "device": "cpu" if device.type == "cpu" else str(device.index or 0),
        "save_dir": str(folder),
        "exist_ok": True,
    }
    with environment_kept(), generators_kept(), quiet():
        try:
            try:
                trainer = trainer_class(detector.info.task)(overrides=overrides)
            except (RuntimeError, TypeError, ValueError, SyntaxError, FileNotFoundError) as error:
                raise refused(str(data), error) from error
            torch.set_num_threads(threads)  # Ultralytics takes another number
            for module in (detector.module, teacher):
                if module is not None:  # scoring may have changed the layout, and with it the last digits
                    module.to(memory_format=torch.contiguous_format)
            if norms is not None:
                unfold(detector.module, norms)
            detector.module.requires_grad_(True)
            trainer.model = detector.module
            trainer.session = Session(detector, config, checkpoints, teacher, state, progress, group)
            if group is not None:
                trainer.world_size = group.size  # Ultralytics knows that of GPUs alone
            trainer.add_callback("on_train_epoch_start", lambda running: running.start_epoch_anew())
            trainer.train()
        finally:
            leave_group()
            torch.set_num_threads(threads)
            fold(detector.module)
            detector.module.criterion = None  # type: ignore[assignment]
            detector.module.requires_grad_(False).eval()
