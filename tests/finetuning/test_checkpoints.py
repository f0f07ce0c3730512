from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_training import STATE, checkpoints

from yoloqat.detectors import Detector
from yoloqat.finetuning import BEST, LAST, CheckpointManager, Figures, TrainingState
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
    assert made.score(detector, 1, {"box": 1.0}, loss=1.0, seconds=0.1).map50_95 == 0.4
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


TIE = 0.05
"""mAPs that are nearer than this tie."""


def judged(folder: Path, figures: list[Figures]) -> CheckpointManager:
    """A manager to which the n-th model has the figures ``figures[n]``."""

    def evaluate(*_: object) -> Figures:
        return figures[len(made.rows)]

    def tied(first: str, second: str) -> bool:
        scores = {row.weights: row.map50_95 for row in made.rows}
        return abs(scores[first] - scores[second]) < TIE

    made = CheckpointManager(folder, folder / STATE, evaluate, tied)
    return made


def run_through(made: CheckpointManager, detector: Detector, epochs: int) -> list[int]:
    """Return the best epoch after each."""
    made.start(detector)
    best = [made.best.epoch]
    for epoch in range(1, epochs + 1):
        with torch.no_grad():
            detector.module.model[0].conv.bias[0] += 1
        made.score(detector, epoch, {}, loss=1.0, seconds=0.1)
        best.append(made.best.epoch)
    return best


@pytest.mark.parametrize(
    ("figures", "best", "reason"),
    [
        (
            [(0.50, 0.3), (0.51, 0.4), (0.49, 0.2)],
            [0, 0, 2],
            "its mAP ties with the highest, that of epoch 1, and its d",
        ),
        ([(0.50, 0.3), (0.60, 0.4), (0.59, 0.5)], [0, 1, 1], "highest mAP"),
        ([(0.50, 0.3), (0.54, 0.4), (0.58, 0.5)], [0, 0, 2], "highest mAP"),  # no longer tied with the first
        ([(0.50, 0.3), (0.40, 0.1), (0.50, 0.3)], [0, 0, 0], "highest mAP"),
        ([(0.50, None), (0.51, 0.1), (0.52, None)], [0, 1, 2], "highest mAP"),
        ([(None, 0.3), (None, 0.2), (None, 0.4)], [0, 1, 1], "lowest d"),
        ([(None, 0.3), (None, None), (None, 0.3)], [0, 0, 0], "lowest d"),
    ],
)
def test_where_map_ties_the_lower_noise_is_better(
    detector: Detector, tmp_path: Path, figures: list[tuple[float, float]], best: list[int], reason: str
) -> None:
    made = judged(tmp_path, [Figures(*pair) for pair in figures])
    assert run_through(made, detector, 2) == best
    assert made.reason.startswith(reason)


def test_the_best_comes_back_with_the_state(detector: Detector, tmp_path: Path) -> None:
    figures = [Figures(0.50, 0.3, [0.2, 0.4]), Figures(0.51, 0.4), Figures(0.49, 0.2)]
    made = judged(tmp_path, figures)
    assert run_through(made, detector, 2)[-1] == 2
    made.save(TrainingState())
    again = judged(tmp_path, figures)
    assert again.resume() is not None
    assert (again.best.epoch, again.rows[0].d_ci95) == (2, [0.2, 0.4])


def test_patience_counts_epochs_whose_noise_is_no_lower(detector: Detector, tmp_path: Path) -> None:
    made = judged(tmp_path, [Figures(0.50, 0.3), Figures(0.49, 0.2), Figures(0.51, 0.25)])
    run_through(made, detector, 2)
    assert (made.stale(1), made.stale(2)) == (True, False)
