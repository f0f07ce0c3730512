from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_trainer import Interrupt, losses, ranges
from tiny_detector import IMGSZ, TinyData
from tiny_training import STATE, checkpoints
from torch import nn

from yoloqat.detectors import Detector, load_detector
from yoloqat.errors import CalibrationError, ConfigError, ModelError
from yoloqat.finetuning import LAST, CheckpointManager, SupervisionConfig, TrainingState
from yoloqat.finetuning.supervise import captured, finetune_supervised, supervised_modules
from yoloqat.pipeline.finetune import float_detector
from yoloqat.pipeline.finetune_trainers import training_images
from yoloqat.progress import Progress, silent
from yoloqat.quant import state_digest

CONFIG = SupervisionConfig(epochs=2, batch=4, imgsz=IMGSZ, rates=((0, 1e-3), (1, 1e-4)), stride=2)


def supervise(
    path: Path, config: SupervisionConfig, folder: Path, images: Path, *, progress: Progress = silent
) -> tuple[Detector, CheckpointManager]:
    detector = load_detector(path)
    teacher, kept = float_detector(detector).module, checkpoints(folder)
    state = kept.start(detector)
    records = training_images(images)
    finetune_supervised(detector, teacher, records, config, checkpoints=kept, state=state, progress=progress)
    return detector, kept


def test_every_so_many_modules_and_the_last_before_the_head() -> None:
    module = nn.Module()
    module.model = nn.Sequential(*(nn.Identity() for _ in range(7)))
    assert supervised_modules(module, 1) == [f"model.{index}" for index in range(6)]
    assert supervised_modules(module, 3) == ["model.0", "model.3", "model.5"]
    assert supervised_modules(nn.Sequential(nn.Identity(), nn.Identity(), nn.Identity()), 2) == ["0", "1"]


def test_a_lone_head_is_refused() -> None:
    with pytest.raises(ConfigError, match="Sequential has no layer before its head"):
        supervised_modules(nn.Sequential(nn.Identity()), 1)


def test_outputs_that_are_no_tensor_are_left_out_and_hooks_go() -> None:
    class Pair(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x, x

    module = nn.Sequential(nn.Identity(), Pair())
    with captured(module, ["0", "1"]) as outputs:
        module(torch.ones(1))
    assert list(outputs) == ["0"]
    assert not any(child._forward_hooks for child in module)


def test_supervision_brings_the_model_nearer_to_the_float_one(
    tiny_checkpoint: Path, tiny_data: TinyData, tmp_path: Path
) -> None:
    detector = load_detector(tiny_checkpoint)
    teacher, fixed, kept = float_detector(detector).module, ranges(detector), checkpoints(tmp_path)
    with torch.no_grad():  # weights that went astray are something to win back
        for parameter in detector.module.parameters():
            parameter.mul_(1.05)
    kept.start(detector)
    config = replace(CONFIG, epochs=4, rates=((0, 1e-3),))
    finetune_supervised(detector, teacher, training_images(tiny_data.train), config, checkpoints=kept)
    assert kept.rows[-1].loss < 0.5 * kept.rows[1].loss
    assert all(torch.equal(value, fixed[name]) for name, value in ranges(load_detector(tmp_path / LAST)).items())


def test_an_interrupted_supervision_resumes_to_the_same_losses(
    tiny_checkpoint: Path, tiny_data: TinyData, tmp_path: Path
) -> None:
    config = replace(CONFIG, learn_amax=True)
    _, whole = supervise(tiny_checkpoint, config, tmp_path / "whole", tiny_data.train)
    with pytest.raises(KeyboardInterrupt):
        supervise(tiny_checkpoint, config, tmp_path / "cut", tiny_data.train, progress=Interrupt(2, 1))
    detector, resumed = supervise(tiny_checkpoint, config, tmp_path / "cut", tiny_data.train)
    assert losses(resumed.rows) == losses(whole.rows)
    assert state_digest(detector.module) == whole.rows[-1].weights
    assert TrainingState.load(tmp_path / "cut" / STATE).values["finished"]


def test_a_rate_that_is_too_high_ends_the_training(tiny_checkpoint: Path, tiny_data: TinyData, tmp_path: Path) -> None:
    config = replace(CONFIG, rates=((0, 1e30),))
    with pytest.raises(ModelError, match=r"the loss became (nan|inf).*no epoch was finished"):
        supervise(tiny_checkpoint, config, tmp_path, tiny_data.train)


def test_a_range_that_breaks_ends_the_supervision(tiny_checkpoint: Path, tiny_data: TinyData, tmp_path: Path) -> None:
    config = replace(CONFIG, learn_amax=True, rates=((0, 1e-3), (1, 1e6)))
    with pytest.raises((CalibrationError, ModelError), match=r"last\.safetensors holds epoch 1"):
        supervise(tiny_checkpoint, config, tmp_path, tiny_data.train)


def test_patience_ends_the_supervision(tiny_checkpoint: Path, tiny_data: TinyData, tmp_path: Path) -> None:
    detector = load_detector(tiny_checkpoint)
    kept = checkpoints(tmp_path, [0.5, 0.4, 0.3, 0.2])
    kept.start(detector)
    config = replace(CONFIG, epochs=9, rates=((0, 1e-4),), patience=2)
    finetune_supervised(
        detector, float_detector(detector).module, training_images(tiny_data.train), config, checkpoints=kept
    )
    assert [row.epoch for row in kept.rows] == [0, 1, 2]


def test_images_to_train_on_must_be_named() -> None:
    with pytest.raises(ConfigError, match=r"not named \(data is None\)"):
        training_images(None)


def test_anchors_of_a_forward_in_inference_mode_do_not_stop_the_training(
    tiny_checkpoint: Path, tiny_data: TinyData, tmp_path: Path
) -> None:
    detector = load_detector(tiny_checkpoint)
    teacher, kept = float_detector(detector).module, checkpoints(tmp_path)
    state = kept.start(detector)
    with torch.inference_mode():  # what scoring at the same batch and size leaves behind
        detector.module(torch.zeros(CONFIG.batch, 3, IMGSZ, IMGSZ))
    finetune_supervised(detector, teacher, training_images(tiny_data.train), CONFIG, checkpoints=kept, state=state)
    assert len(kept.rows) == 1 + CONFIG.epochs
