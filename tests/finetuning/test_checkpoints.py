from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_training import STATE, checkpoints

from yoloqat.detectors import Detector
from yoloqat.finetuning import BEST, LAST, TrainingState
from yoloqat.quant import state_digest


def test_the_digest_tells_weights_and_ranges_apart(detector: Detector) -> None:
    before = state_digest(detector.module)
    assert state_digest(detector.module) == before
    quantizer = detector.module.model[0].conv._input_quantizer
    kept = quantizer.amax.clone()
    quantizer.amax.add_(1e-6)
    assert state_digest(detector.module) != before
    quantizer.amax.copy_(kept)
    assert state_digest(detector.module) == before
    with torch.no_grad():
        detector.module.model[0].conv.bias[0] += 1e-3
    assert state_digest(detector.module) != before


def test_the_start_is_scored_and_counts_as_the_best_until_beaten(detector: Detector, tmp_path: Path) -> None:
    made = checkpoints(tmp_path, [0.5, 0.4, 0.6])
    assert made.start(detector) is None
    assert (tmp_path / BEST).is_file()
    assert not (tmp_path / LAST).exists()
    first = (tmp_path / BEST).read_bytes()
    with torch.no_grad():
        detector.module.model[0].conv.bias[0] += 1
    assert made.score(detector, 1, {"box": 1.0}, loss=1.0, seconds=0.1) == 0.4
    assert (tmp_path / BEST).read_bytes() == first
    assert made.best.epoch == 0
    made.score(detector, 2, {"box": 1.0}, loss=1.0, seconds=0.1)
    assert made.best.epoch == 2
    assert (tmp_path / BEST).read_bytes() == (tmp_path / LAST).read_bytes() != first


def test_patience_counts_epochs_since_the_best(detector: Detector, tmp_path: Path) -> None:
    made = checkpoints(tmp_path, [0.5, 0.4, 0.3])
    made.start(detector)
    assert not made.stale(1)
    made.score(detector, 1, {}, loss=1.0, seconds=0.1)
    assert made.stale(1)
    assert not made.stale(2)
    assert not made.stale(0)


def test_rows_come_back_with_the_state(detector: Detector, tmp_path: Path) -> None:
    made = checkpoints(tmp_path)
    made.start(detector)
    made.score(detector, 1, {"box": 0.25}, loss=0.25, seconds=0.5)
    made.save(TrainingState(values={"epoch": 1}))
    again = checkpoints(tmp_path)
    assert again.start(detector).values["epoch"] == 1
    assert again.rows == made.rows
    assert (tmp_path / STATE).is_file()


def test_the_earliest_of_equals_is_the_best(detector: Detector, tmp_path: Path) -> None:
    made = checkpoints(tmp_path, [0.5, 0.5])
    made.start(detector)
    made.score(detector, 1, {}, loss=1.0, seconds=0.1)
    assert made.best.epoch == 0
    assert made.table()[1]["map50_95"] == pytest.approx(0.5)
