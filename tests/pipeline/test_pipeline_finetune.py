from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from forwards import CONFIG

from yoloqat.datasets import DetectionDataset
from yoloqat.detectors import Detector, load_detector
from yoloqat.errors import DataError
from yoloqat.finetuning import CheckpointManager, SupervisionConfig, TrainingState
from yoloqat.pipeline.finetune import Judge, Scoring, finetune, float_detector
from yoloqat.pipeline.loggers import NoLogger
from yoloqat.pipeline.run import Run
from yoloqat.quant import state_digest

MakeRun = Callable[..., Run]


@pytest.fixture
def calibrated(tiny_checkpoint: Path) -> Detector:
    return load_detector(tiny_checkpoint)


def test_an_epoch_is_judged_by_map_and_noise(
    make_run: MakeRun, calibrated: Detector, dataset: DetectionDataset
) -> None:
    teacher, run = float_detector(calibrated), make_run()
    judge = Judge(Scoring(dataset, CONFIG, run, dataset.images), teacher)
    own = judge.figures(teacher, "float")
    assert own.d == 0.0
    weights = state_digest(calibrated.module)
    found = judge.figures(calibrated, weights)
    assert found.map50_95 is not None
    assert found.map50_95 < own.map50_95
    assert found.d_ci95[0] <= found.d <= found.d_ci95[1]
    assert judge.tied(weights, weights)
    unlabelled = Judge(Scoring(None, CONFIG, run, dataset.images), teacher).figures(calibrated, weights)
    assert (unlabelled.map50_95, unlabelled.d) == (None, found.d)
    unmeasured = Judge(Scoring(dataset, CONFIG, run), teacher).figures(calibrated, weights)
    assert (unmeasured.map50_95, unmeasured.d) == (found.map50_95, None)


def test_ties_with_an_epoch_before_an_interruption_run_nothing_again(
    make_run: MakeRun, calibrated: Detector, dataset: DetectionDataset
) -> None:
    teacher = float_detector(calibrated)
    before = Judge(Scoring(dataset, CONFIG, make_run()), teacher)
    before.figures(teacher, "float")
    before.figures(calibrated, "quantized")
    forwards: list[Any] = []
    calibrated.module.register_forward_pre_hook(lambda *_: forwards.append(1))
    after = Judge(Scoring(dataset, CONFIG, make_run()), calibrated)
    assert after.tied("quantized", "quantized")
    assert forwards == []


def test_epochs_that_nothing_judges_are_refused(
    make_run: MakeRun, calibrated: Detector, dataset: DetectionDataset
) -> None:
    with pytest.raises(DataError, match="there are 0 images to judge an epoch by; expected labelled images, or images"):
        finetune(
            calibrated,
            float_detector(calibrated),
            lambda *_: None,
            Scoring(None, CONFIG, make_run()),
            config=SupervisionConfig(),
            inputs={},
        )


def test_every_epoch_is_noted_as_soon_as_it_is_scored(
    make_run: MakeRun, calibrated: Detector, dataset: DetectionDataset
) -> None:
    noted: list[tuple[str, int | None]] = []

    class Noting(NoLogger):
        def scalar(self, name: str, value: float, step: int | None = None) -> None:
            noted.append((name, step))

    def train(checkpoints: CheckpointManager, state: TrainingState | None) -> None:
        assert noted == [("epochs/d", 0)]
        checkpoints.score(calibrated, 1, {}, loss=0.5, seconds=0.1)
        assert noted[1:] == [("epochs/d", 1), ("epochs/loss", 1)]

    run = replace(make_run(), logger=Noting())
    scoring = Scoring(None, CONFIG, run, dataset.images)
    finetune(calibrated, float_detector(calibrated), train, scoring, config=SupervisionConfig(), inputs={})
    assert len(noted) == 3, "none twice"
