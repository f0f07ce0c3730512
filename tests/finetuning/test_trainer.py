from __future__ import annotations

import copy
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_training import STATE, outputs, settings, train

from yoloqat.detectors import Detector, load_detector
from yoloqat.errors import CalibrationError, ConfigError, ModelError
from yoloqat.finetuning import BEST, LAST, LossWeights, TrainingState
from yoloqat.finetuning.ultralytics import check_trainable, parse_arguments
from yoloqat.quant import quantizers, state_digest


def ranges(detector: Detector) -> dict[str, torch.Tensor]:
    return {name: site.amax.detach().clone() for name, site in quantizers(detector.module)}


def losses(rows: list[Any]) -> list[Any]:
    return [(row.epoch, row.loss, row.losses, row.weights) for row in rows]


class Interrupt:
    """Raises as Ctrl-C does, at a step of an epoch."""

    def __init__(self, epoch: int, step: int) -> None:
        self.when = (f"epoch {epoch}", step)

    def __call__(self, step: str, done: int, total: int) -> None:
        if (step, done) == self.when:
            raise KeyboardInterrupt


def test_weights_move_and_fixed_ranges_stay_exactly(detector: Detector, labelled: Path, tmp_path: Path) -> None:
    before, weights = ranges(detector), state_digest(detector.module)
    kept = train(detector, settings(), tmp_path, labelled)
    last = load_detector(tmp_path / LAST)
    assert all(torch.equal(value, before[name]) for name, value in ranges(last).items())
    assert len({weights, *(row.weights for row in kept.rows[1:])}) == 3
    assert kept.rows[-1].weights == state_digest(last.module)  # what was scored is what was saved
    state = TrainingState.load(tmp_path / STATE)
    assert not torch.equal(state.tensors["ema"]["model.0.conv.weight"], state.tensors["model"]["model.0.conv.weight"])
    assert state.tensors["ema"]["model.0.conv.weight"].dtype == torch.float32
    saved = last.module.state_dict()
    assert all(torch.equal(value, saved[name]) for name, value in state.tensors["ema"].items())
    assert set(kept.rows[1].losses) == {
        "box_loss",
        "cls_loss",
        "dfl_loss",
        "distill_classes",
        "distill_boxes",
        "distill_features",
    }
    assert kept.rows[1].loss == pytest.approx(sum(kept.rows[1].losses.values()))


def test_an_interrupted_run_resumes_to_the_same_losses(tiny_checkpoint: Path, labelled: Path, tmp_path: Path) -> None:
    config = settings(epochs=3, learn_amax=True, arguments=("mosaic=0.5", "nbs=8", "warmup_epochs=1"))
    whole = train(load_detector(tiny_checkpoint), config, tmp_path / "whole", labelled)
    with pytest.raises(KeyboardInterrupt):
        train(load_detector(tiny_checkpoint), config, tmp_path / "cut", labelled, progress=Interrupt(2, 2))
    resumed = train(load_detector(tiny_checkpoint), config, tmp_path / "cut", labelled)
    assert losses(resumed.rows) == losses(whole.rows)
    first = TrainingState.load(tmp_path / "whole" / STATE)
    second = TrainingState.load(tmp_path / "cut" / STATE)
    for group, tensors in first.tensors.items():
        for name, value in tensors.items():
            assert torch.equal(value, second.tensors[group][name]), f"{group} {name}"


def test_random_generators_and_threads_are_given_back(detector: Detector, labelled: Path, tmp_path: Path) -> None:
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    expected = random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    train(detector, settings(epochs=1), tmp_path, labelled)
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected  # noqa: NPY002
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == (threads, deterministic)


def test_learned_ranges_move_and_stay_positive(detector: Detector, labelled: Path, tmp_path: Path) -> None:
    before = ranges(detector)
    train(detector, settings(epochs=1, learn_amax=True, lr0=1e-2), tmp_path, labelled)
    after = ranges(load_detector(tmp_path / LAST))
    moved = [name for name, value in after.items() if not torch.equal(value, before[name])]
    assert any(name.endswith("_input_quantizer") for name in moved)
    assert any(name.endswith("_weight_quantizer") for name in moved)
    assert all(bool((value > 0).all()) for value in after.values())


def test_the_best_epoch_is_kept_and_training_stops_early(detector: Detector, labelled: Path, tmp_path: Path) -> None:
    config = settings(epochs=9, patience=2, weights=LossWeights(outputs=0, features=0))
    kept = train(detector, config, tmp_path, labelled, scores=[0.1, 0.4, 0.3, 0.2, 0.5])
    assert [row.epoch for row in kept.rows] == [0, 1, 2, 3]
    assert kept.best.epoch == 1
    assert state_digest(load_detector(tmp_path / BEST).module) == kept.rows[1].weights
    assert state_digest(load_detector(tmp_path / LAST).module) == kept.rows[3].weights
    assert TrainingState.load(tmp_path / STATE).values["finished"]


def test_a_range_that_breaks_ends_the_training_by_name(detector: Detector, labelled: Path, tmp_path: Path) -> None:
    name, site = next(iter(quantizers(detector.module)))

    def spoil(step: str, done: int, total: int) -> None:
        if (step, done) == ("epoch 2", 1):
            site.amax.fill_(float("nan"))

    with pytest.raises(CalibrationError, match=rf"amax of '{name}' became nan.*last.safetensors holds epoch 1"):
        train(detector, settings(), tmp_path, labelled, progress=spoil)
    assert outputs(load_detector(tmp_path / LAST)).isfinite().all()


def test_a_loss_that_breaks_ends_the_training(detector: Detector, labelled: Path, tmp_path: Path) -> None:
    def spoil(step: str, done: int, total: int) -> None:
        if (step, done) == ("epoch 1", 1):
            with torch.no_grad():
                detector.module.model[0].conv.weight.fill_(float("nan"))

    with pytest.raises(ModelError, match=r"the loss became nan in epoch 1, step 2.*no epoch was finished"):
        train(detector, settings(), tmp_path, labelled, progress=spoil)


def test_fuse_leaves_a_quantized_model_as_it_is(detector: Detector) -> None:
    expected = outputs(detector)
    fused = replace(detector, module=copy.deepcopy(detector.module).fuse(verbose=False))
    assert torch.equal(outputs(fused), expected)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [({"task": "pose"}, "ultralytics, pose"), ({"end2end": True}, "ultralytics, detect, end-to-end")],
)
def test_what_the_trainer_cannot_take_is_refused(detector: Detector, changes: dict[str, Any], kind: str) -> None:
    with pytest.raises(ConfigError, match=rf"cannot be fine-tuned on Ultralytics' trainer \({kind}\)"):
        check_trainable(replace(detector, info=replace(detector.info, **changes)))
    with pytest.raises(ConfigError, match=r"Ultralytics' trainer \(anchor, detect\)"):
        check_trainable(replace(detector, family="anchor"))


@pytest.mark.parametrize(
    "value",
    ["[", "!!bool perhaps", "!!int ''", "!!timestamp never", "2020-13-45", "[" * 3000, "!!python/name:os.system"],
)
def test_values_of_training_arguments_that_are_none_are_named(value: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"the training argument is '{f'mosaic={value}':.200}'")):
        parse_arguments([f"mosaic={value}"])
