"""Fine-tuning of a calibrated detector, every epoch scored, the gain over the calibrated model with its interval."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from yoloqat.config import EvalConfig, to_dict
from yoloqat.datasets import DetectionDataset
from yoloqat.detectors import Detector, TorchPredictor, load_detector
from yoloqat.errors import ConfigError, ModelError
from yoloqat.evaluation import Evaluation, split_halves, subset
from yoloqat.evaluation.drops import Baseline, drop_results, part_map
from yoloqat.finetuning import CheckpointManager, EpochRow, FinetuneConfig, SupervisionConfig, TrainingState
from yoloqat.pipeline.models import check_scoring
from yoloqat.pipeline.ptq import refuse_quantized
from yoloqat.pipeline.run import Run
from yoloqat.provenance import file_sha256
from yoloqat.quant import quantizers

STATE = "state.safetensors"


def check_quantized(detector: Detector, path: Path) -> None:
    """Check that a detector is quantized.

    Raises:
        ModelError: It is float.
    """
    if detector.quantization is None:
        raise ModelError(
            f"'{path}' is a float model",
            expected="a checkpoint that `yoloqat calibrate` wrote",
            hint=f"run `yoloqat calibrate {path}` first",
        )


def float_detector(detector: Detector, path: Path | None = None) -> Detector:
    """Return the float detector that a quantized one was made from.

    Without a path it is the checkpoint itself with its quantizers switched off, which calibration leaves the same; for one
    that was refined or fine-tuned before it is the file that the checkpoint names.

    Args:
        detector: Quantized.
        path: The float model's file, or None.

    Raises:
        ModelError: The file is missing, quantized, or not the one that the detector was made from.
    """
    made = {} if detector.quantization is None else detector.quantization.calibration
    if path is None and not {"finetune", "refine"} & made.keys():
        teacher = replace(detector, module=copy.deepcopy(detector.module), quantization=None)
        for _, quantizer in quantizers(teacher.module):
            quantizer.disable()
        return teacher
    teacher = load_detector(float_file(detector, path))
    refuse_quantized(teacher)
    return teacher


def float_file(detector: Detector, path: Path | None = None) -> Path:
    """Return the file that a quantized detector was made from.

    Args:
        detector: Quantized.
        path: Where it is now, or None where it is still where the detector says.

    Raises:
        ModelError: It does not exist, or is not the one that the detector was made from.
    """
    path = path or Path(detector.source.path)
    there = os.path.isfile(path)  # noqa: PTH113 - False for what is no possible path, as a file may name
    if not there or file_sha256(path) != detector.source.sha256:
        raise ModelError(
            f"float model '{str(path)[:200]}' {'is another file' if there else 'does not exist'}",
            expected=f"the file that the checkpoint was made from (sha256 {detector.source.sha256[:12]}...)",
            hint="name it with `floating`",
        )
    return path


@dataclass(frozen=True)
class Scoring:
    """How epochs are scored.

    Attributes:
        dataset: The validation images.
        config: How.
        run: Where finished parts are kept.
    """

    dataset: DetectionDataset
    config: EvalConfig
    run: Run

    def score(self, detector: Detector, label: str, weights: str) -> Evaluation:
        """Score a detector, or find again what was scored before under the same digest of weights."""
        predictor = TorchPredictor(detector, device=self.run.device)
        quantization = detector.quantization
        key = {"weights": weights, "quant": None if quantization is None else to_dict(quantization.config)}
        return self.run.evaluate(predictor, self.dataset, self.config, label=label, model_key=key)

    def map50_95(self, detector: Detector, weights: str) -> float:
        """Return the mAP50-95 of an epoch's model, as a fraction."""
        return self.score(detector, f"weights {weights[:8]}", weights).metrics.map50_95 or 0.0


Train = Callable[[CheckpointManager, TrainingState | None], None]
"""Trains from a state on, or from the beginning; the checkpoint manager scores and keeps every epoch."""


def finetune(
    detector: Detector,
    teacher: Detector,
    train: Train,
    scoring: Scoring,
    *,
    config: FinetuneConfig | SupervisionConfig,
    inputs: dict[str, Any],
    must_resume: bool = False,
) -> dict[str, Any]:
    """Train a calibrated detector; write its best and its last checkpoint, and return its curve.

    Args:
        detector: Calibrated; trained in place.
        teacher: The float detector it was made from.
        train: The trainer.
        scoring: How every epoch is scored.
        config: How it trains, for the checkpoint and to find an interrupted run again.
        inputs: JSON-able values that identify the checkpoint and the training images.
        must_resume: Refuse to begin anew.

    Returns:
        The keys of the result of ``finetune``.

    Raises:
        ConfigError: There is nothing to go on with, though there must be; or the image size does not fit the model.
        DataError: The names of classes and categories do not match.
    """
    run = scoring.run
    check_scoring(detector.info, scoring.dataset, scoring.config)
    path = run.part_path(run.key(inputs=inputs, config=to_dict(config), scoring=to_dict(scoring.config)), STATE)
    if must_resume and not path.is_file():
        raise ConfigError(
            f"'{run.out}' holds no unfinished run of these settings",
            expected="the output directory and the settings of a run that was interrupted",
            hint="type the line that was interrupted, or leave `must_resume` out to begin",
        )
    floating = scoring.score(teacher, "float", f"float {detector.source.sha256}")
    start = copy.deepcopy(detector)
    mark_finetuned(detector, config)
    checkpoints = CheckpointManager(run.out, path, scoring.map50_95)
    state = checkpoints.start(detector)
    if state is None or not state.values["finished"]:
        train(checkpoints, state)
    return _results(checkpoints, start, floating, scoring)


def mark_finetuned(detector: Detector, config: FinetuneConfig | SupervisionConfig) -> None:
    """Note in a detector's description how its weights were changed."""
    quantization = detector.quantization
    assert quantization is not None  # noqa: S101 - checked by check_quantized
    calibration = quantization.calibration | {"finetune": to_dict(config)}
    detector.quantization = replace(quantization, calibration=calibration)


def _results(checkpoints: CheckpointManager, start: Detector, floating: Evaluation, scoring: Scoring) -> dict[str, Any]:
    # found again by the digest of the weights
    scored = [scoring.score(start, f"epoch {row.epoch}", row.weights) for row in checkpoints.rows]
    reference = Baseline(floating.matches)
    first, best, last = checkpoints.rows[0], checkpoints.best, checkpoints.rows[-1]
    before, after, final = scored[0], scored[checkpoints.rows.index(best)], scored[-1]
    drop, drop_before = reference.drop(after.matches), reference.drop(before.matches)
    gain, gain_last = Baseline(after.matches).drop(before.matches), Baseline(final.matches).drop(before.matches)
    return {
        "map_float": floating.metrics.map50_95,
        "start": {"map50_95": first.map50_95, **drop_results(drop_before)},
        "epochs": checkpoints.table()[1:],
        "best_epoch": best.epoch,
        "map50_95": best.map50_95,
        **drop_results(drop),
        **drop_results(gain, "gain"),
        "won_back": gain.difference / drop_before.difference if drop_before.low > 0 else None,
        "last": {
            "map50_95": last.map50_95,
            **drop_results(gain_last, "gain"),
        },
        "confirmed": _confirmed(checkpoints.rows, scored),
    }


def _confirmed(rows: list[EpochRow], scored: list[Evaluation]) -> dict[str, Any] | None:
    """Choose the epoch on one half of the images and measure its gain on the other; None where a half has no object."""
    images = len(scored[0].matches.image_ids)
    halves = split_halves(images, 0) if images > 1 else ()
    if not halves or not all(subset(scored[0].matches, half).categories for half in halves):
        return None
    chosen_on, measured_on = halves
    index = max(range(len(rows)), key=lambda row: part_map(scored[row], chosen_on))
    after = Baseline(subset(scored[index].matches, measured_on))
    gain = after.drop(subset(scored[0].matches, measured_on))
    return {
        "epoch": rows[index].epoch,
        "images": int(measured_on.sum()),
        **drop_results(gain, "gain"),
    }
