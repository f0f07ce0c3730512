"""Fine-tuning of a calibrated detector, every epoch scored, the gain over the calibrated model with its interval."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from yoloqat.config import EvalConfig, to_dict
from yoloqat.datasets import DetectionDataset, ImageRecord
from yoloqat.detectors import Detector, TorchPredictor, load_detector
from yoloqat.errors import ConfigError, DataError, ModelError
from yoloqat.evaluation import Evaluation, split_halves, subset
from yoloqat.evaluation.drops import Baseline, drop_results, part_map
from yoloqat.evaluation.matching import Matches
from yoloqat.evaluation.reference import Reference
from yoloqat.finetuning import CheckpointManager, EpochRow, Figures, FinetuneConfig, SupervisionConfig, TrainingState
from yoloqat.pipeline.fidelity import noise_results
from yoloqat.pipeline.loggers import log_epochs
from yoloqat.pipeline.models import check_scoring
from yoloqat.pipeline.ptq import refuse_quantized
from yoloqat.pipeline.run import Run, records_key
from yoloqat.provenance import file_sha256
from yoloqat.quant import quantizers

STATE = "state.safetensors"
_NO_DROP: dict[str, Any] = {"drop": None, "drop_ci95": None}
_NO_GAIN: dict[str, Any] = {"gain": None, "gain_ci95": None}


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
    """How epochs are judged.

    Attributes:
        dataset: The validation images, or None without labels.
        config: How they are scored.
        run: Where finished parts are kept.
        compared: Images to measure the noise on; none measures none.
    """

    dataset: DetectionDataset | None
    config: EvalConfig
    run: Run
    compared: Sequence[ImageRecord] = ()

    def score(self, detector: Detector, label: str, weights: str) -> Evaluation | None:
        """Score a detector, or find again what was scored before under the same digest of weights; None without labels."""
        if self.dataset is None:
            return None
        predictor = TorchPredictor(detector, device=self.run.device)
        quantization = detector.quantization
        key = {"weights": weights, "quant": None if quantization is None else to_dict(quantization.config)}
        return self.run.evaluate(predictor, self.dataset, self.config, label=label, model_key=key)


class Judge:
    """Judges the model of every epoch by its mAP and by its noise to the float teacher.

    Args:
        scoring: How.
        teacher: The float detector; it runs here, before any training, and then no more.

    Raises:
        DataError: An image to measure the noise on does not decode.
    """

    def __init__(self, scoring: Scoring, teacher: Detector) -> None:
        self._scoring, self._detector = scoring, teacher
        self._matches: dict[str, Matches] = {}
        self._reference = None
        if scoring.compared:
            predictor, progress = TorchPredictor(teacher, device=scoring.run.device), scoring.run.labelled("float")
            self._reference = Reference(
                predictor, scoring.compared, scoring.config, detections=False, progress=progress
            )

    def figures(self, detector: Detector, weights: str) -> Figures:
        """Return the figures of an epoch's model.

        Args:
            detector: The model.
            weights: The digest of its weights.
        """
        label = f"weights {weights[:8]}"
        noise = noise_results(None)
        if self._reference is not None:
            predictor = TorchPredictor(detector, device=self._scoring.run.device)
            noise = noise_results(self._reference.compare(predictor, progress=self._scoring.run.labelled(label)))
        self._detector = detector
        found = self._scoring.score(detector, label, weights)
        if found is None:
            return Figures(None, noise["d"], noise["d_ci95"])
        self._matches[weights] = found.matches
        return Figures(found.metrics.map50_95 or 0.0, noise["d"], noise["d_ci95"])

    def tied(self, first: str, second: str) -> bool:
        """Return whether the mAPs of two models that were scored, named by the digests of their weights, are not told apart."""
        difference = Baseline(self._found(first)).drop(self._found(second))
        return difference.low <= 0 <= difference.high

    def _found(self, weights: str) -> Matches:
        """Return how a model's detections match: of one that was scored before an interruption from the kept parts."""
        if weights not in self._matches:
            found = self._scoring.score(self._detector, f"weights {weights[:8]}", weights)
            assert found is not None  # noqa: S101 - nothing asks for ties without labels
            self._matches[weights] = found.matches
        return self._matches[weights]


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
        DataError: The names of classes and categories do not match; there are neither labels nor images to judge an epoch by.
    """
    if scoring.dataset is None and not scoring.compared:
        raise DataError(
            f"there are {len(scoring.compared)} images to judge an epoch by",
            expected="labelled images, or images to compare with the float model on",
            hint="name a data set, or images without labels",
        )
    run = scoring.run
    check_scoring(detector.info, scoring.dataset, scoring.config)
    inputs = inputs | {"compared": records_key(scoring.compared)}
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
    judge = Judge(scoring, teacher)
    told: set[int] = set()

    def tell(row: EpochRow) -> None:
        if row.epoch not in told:
            told.add(row.epoch)
            log_epochs(run.logger, [vars(row)])

    checkpoints = CheckpointManager(run.out, path, judge.figures, judge.tied, tell)
    state = checkpoints.start(detector)
    for row in checkpoints.rows:
        tell(row)
    if state is None or not state.values["finished"]:
        train(checkpoints, state)
    for row in checkpoints.rows:  # of a process that trained for this one
        tell(row)
    return _results(checkpoints, start, floating, scoring)


def mark_finetuned(detector: Detector, config: FinetuneConfig | SupervisionConfig) -> None:
    """Note in a detector's description how its weights were changed."""
    quantization = detector.quantization
    assert quantization is not None  # noqa: S101 - checked by check_quantized
    calibration = quantization.calibration | {"finetune": to_dict(config)}
    detector.quantization = replace(quantization, calibration=calibration)


def _results(
    checkpoints: CheckpointManager, start: Detector, floating: Evaluation | None, scoring: Scoring
) -> dict[str, Any]:
    first, best, last = checkpoints.rows[0], checkpoints.best, checkpoints.rows[-1]
    result: dict[str, Any] = {
        "map_float": None,
        "start": _figures(first) | _NO_DROP,
        "epochs": checkpoints.table()[1:],
        "best_epoch": best.epoch,
        "best_reason": checkpoints.reason,
        "fidelity_images": len(scoring.compared),
        **_figures(best),
        **_NO_DROP,
        **_NO_GAIN,
        "won_back": None,
        "last": _figures(last) | _NO_GAIN,
        "confirmed": None,
    }
    if floating is None:
        return result
    # found again by the digest of the weights
    found = [scoring.score(start, f"epoch {row.epoch}", row.weights) for row in checkpoints.rows]
    scored = [evaluation for evaluation in found if evaluation is not None]
    reference = Baseline(floating.matches)
    before, after, final = scored[0], scored[checkpoints.rows.index(best)], scored[-1]
    drop, drop_before = reference.drop(after.matches), reference.drop(before.matches)
    gain, gain_last = Baseline(after.matches).drop(before.matches), Baseline(final.matches).drop(before.matches)
    result["start"] |= drop_results(drop_before)
    result["last"] |= drop_results(gain_last, "gain")
    return result | {
        "map_float": floating.metrics.map50_95,
        **drop_results(drop),
        **drop_results(gain, "gain"),
        "won_back": gain.difference / drop_before.difference if drop_before.low > 0 else None,
        "confirmed": _confirmed(checkpoints.rows, scored),
    }


def _figures(row: EpochRow) -> dict[str, Any]:
    return {"map50_95": row.map50_95, "d": row.d, "d_ci95": row.d_ci95}


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
