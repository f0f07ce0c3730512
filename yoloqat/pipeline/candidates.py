"""Engines of one detector that differ in what they leave float: each calibrated, refined, exported, built and measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloqat.config import to_dict
from yoloqat.datasets import DetectionDataset, ImageRecord, spread
from yoloqat.engines import open_engine
from yoloqat.errors import DataError
from yoloqat.evaluation import Evaluation, split_halves, subset
from yoloqat.evaluation.drop_verdict import Verdict
from yoloqat.evaluation.drops import Baseline, drop_results
from yoloqat.evaluation.expected_drop import expected_drop
from yoloqat.evaluation.fidelity import NOISE, mean
from yoloqat.evaluation.reference import Fidelity
from yoloqat.pipeline.engine import BuildConfig, build_and_score
from yoloqat.pipeline.float_model import ONNX, Settings
from yoloqat.pipeline.models import path_key
from yoloqat.pipeline.run import Run
from yoloqat.pipeline.shards import ModelFile
from yoloqat.pipeline.stages import Stages
from yoloqat.pipeline.tuning import Tuning
from yoloqat.predictor import Predictor
from yoloqat.results import counted

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Candidate:
    """An engine that was measured.

    Attributes:
        name: What it is called in tables.
        float_layers: What it leaves float beyond what every candidate does.
        folder: Its calibrated model, its ONNX file and its engine.
        path: The engine; the ONNX file where none was built.
        found: The results of its stages: ``refine``, ``export``, ``build``, ``finetune`` and its options, ``training``.
        evaluation: Its score; None without labels.
        fidelity: Its noise.
    """

    name: str
    float_layers: tuple[str, ...]
    folder: Path
    path: Path
    found: dict[str, Any]
    evaluation: Evaluation | None
    fidelity: Fidelity

    @property
    def d(self) -> float:
        """Its noise d on all images."""
        return self.fidelity.d.value

    @property
    def mac_share(self) -> float | None:
        """Share of all multiply-adds of convolutions that run in INT8; None where no engine was built."""
        share: float | None = self.found.get("build", {}).get("int8_mac_share_all")
        return share


class Judge:
    """Measures candidates against the float model: one half of the images chooses, the other confirms.

    Args:
        run: Where finished parts are kept.
        settings: Of the candidates.
        dataset: The validation images; None judges by the noise.
        compared: The images that the noise is measured on.
        seed: Divides the images.

    Raises:
        DataError: A half of the images has no object, or none that the noise is measured on.
    """

    def __init__(
        self,
        run: Run,
        settings: Settings,
        dataset: DetectionDataset | None,
        compared: Sequence[ImageRecord],
        *,
        seed: int = 0,
    ) -> None:
        self._run, self._settings, self._dataset = run, settings, dataset
        predictor = settings.model.predictor(run)
        self._key, file = {"weights": settings.model.key}, ModelFile(settings.model.path.absolute(), run.threads)
        self.reference = run.reference(predictor, compared, replace(settings.scoring, rect=False), file=file)
        self.baseline: Evaluation | None = None
        ids = tuple(self.reference.image_ids)
        if dataset is not None:
            self.baseline = run.evaluate(
                predictor, dataset, settings.scoring, label="float", model_key=self._key, file=file
            )
            ids = self.baseline.matches.image_ids
        self.ids = ids
        self.halves = split_halves(len(ids), seed)
        for half in self.halves:
            self._check(half)

    def _check(self, half: Mask) -> None:
        compared = np.isin(self.reference.image_ids, np.asarray(self.ids)[half]).any()
        if not compared or (self.baseline is not None and not subset(self.baseline.matches, half).categories):
            raise DataError(
                f"{counted(int(half.sum()), 'image')} of {len(self.ids)}, which one half is, "
                f"have no {'object' if compared else 'image among those that the noise is measured on'}",
                expected="both in the half that chooses and in the half that gives the verdict",
                hint="name more images" if compared else "raise `fidelity_images`",
            )

    @property
    def map_float(self) -> float | None:
        """mAP50-95 of the float model; None without labels."""
        return None if self.baseline is None else self.baseline.metrics.map50_95

    @property
    def choosing(self) -> tuple[ImageRecord, ...]:
        """Images of the half that chooses, evenly spread over it."""
        images = self.reference.images if self._dataset is None else self._dataset.images
        ids = set(np.asarray(self.ids)[self.halves[0]].tolist())
        return spread([record for record in images if record.image_id in ids])

    def measure(
        self, predictor: Predictor, label: str, key: Any, file: ModelFile
    ) -> tuple[Evaluation | None, Fidelity]:
        """Return the score of a model, None without labels, and its noise.

        Args:
            predictor: Runs it.
            label: Names it on the progress bar.
            key: JSON-able value that identifies its numbers.
            file: The same model as the workers open it.
        """
        evaluation = None
        if self._dataset is not None:
            scoring = replace(self._settings.scoring, batch=predictor.info.batch or self._settings.scoring.batch)
            evaluation = self._run.evaluate(predictor, self._dataset, scoring, label=label, model_key=key, file=file)
        both = {"model": key, "float": self._key}
        fidelity = self._run.fidelity(self.reference, predictor, label=label, model_key=both, file=file)
        return evaluation, fidelity

    def noise(self, candidate: Candidate, half: Mask) -> NDArray[np.float64]:
        """Return the noise d of a candidate on each image of a half."""
        return candidate.fidelity.measures[NOISE][np.isin(self.reference.image_ids, np.asarray(self.ids)[half])]

    def drop(self, candidate: Candidate, limit: float, half: Mask) -> Verdict:
        """Return whether the drop of mAP stays within a limit on a half of the images.

        Raises:
            DataError: No image of the half has an object.
        """
        if self.baseline is None or candidate.evaluation is None:
            raise TypeError(f"{candidate.name} was not scored")
        found = Baseline(subset(self.baseline.matches, half)).drop(subset(candidate.evaluation.matches, half))
        return Verdict(found.difference, found.low, found.high, limit, int(half.sum()))

    def quiet(self, candidate: Candidate, limit: float, half: Mask) -> Verdict:
        """Return whether the noise d stays within a limit on a half of the images."""
        found = mean(self.noise(candidate, half))
        return Verdict(found.value, found.low, found.high, limit, found.images)

    def row(self, candidate: Candidate) -> dict[str, Any]:
        """Return a candidate as result keys."""
        scored: dict[str, Any] = {"map50_95": None, "drop": None, "drop_ci95": None}
        if self.baseline is not None and candidate.evaluation is not None:
            drop = Baseline(self.baseline.matches).drop(candidate.evaluation.matches)
            scored = {"map50_95": candidate.evaluation.metrics.map50_95, **drop_results(drop)}
        return {
            "name": candidate.name,
            "float_layers": list(candidate.float_layers),
            **scored,
            **candidate.fidelity.d.to_dict(NOISE),
            **expected_drop(candidate.d, self.map_float),
            "int8_mac_share": candidate.mac_share,
        }


def make_candidate(
    stages: Stages,
    judge: Judge,
    settings: Settings,
    float_layers: Sequence[str],
    *,
    name: str,
    run: Run,
    tuning: Tuning | None = None,
) -> Candidate:
    """Make an engine that leaves some layers float, or find it among the finished stages, and measure it.

    Args:
        stages: Keeps what is finished.
        judge: Measures it.
        settings: What all candidates share.
        float_layers: What it leaves float beyond ``settings.quant``.
        name: What it is called.
        run: Device, threads, who watches.
        tuning: Fine-tunes it after the calibration; None does not.
    """
    quant = replace(settings.quant, ignore=(*settings.quant.ignore, *float_layers))
    named = run.named(name)

    def make(folder: Path) -> dict[str, Any]:
        found = settings.model.make(settings, float_layers, folder, named, tuning)
        return found | _built(settings, folder, named)

    made_of = {
        "quant": to_dict(quant),
        "calibration": to_dict(settings.calibration),
        "refine": list(settings.refine),
        "engine": settings.engine,
        "vnni": settings.vnni,
        "tuning": None if tuning is None else tuning.key,
        "scoring": to_dict(settings.scoring),
    }
    found, folder = stages.once("engine", make, **made_of)
    path = folder / found["engine"]
    predictor = open_engine(path, threads=run.threads, device=str(run.device))
    key = {
        "checkpoint": path_key(folder / settings.model.files[0])["sha256"],
        "engine": settings.engine,
        "vnni": settings.vnni,
    }
    evaluation, fidelity = judge.measure(predictor, name, key, ModelFile(path.absolute(), run.threads))
    return Candidate(name, tuple(float_layers), folder, path, found, evaluation, fidelity)


def _built(settings: Settings, folder: Path, run: Run) -> dict[str, Any]:
    """Build the engine of an ONNX file; the file itself is one where none is to be built."""
    if settings.engine is None:
        return {"engine": ONNX}
    config = BuildConfig(settings.engine, vnni=settings.vnni)
    built = build_and_score(folder / ONNX, folder, config, run=run, records=settings.images)
    return {"build": built.to_dict(), "engine": built.path.name}
