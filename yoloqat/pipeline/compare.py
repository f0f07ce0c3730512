"""Every calibration method from one pass: its noise, and its mAP where there are labels, and the one to take."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloqat.config import EvalConfig, MethodSpec
from yoloqat.datasets import DetectionDataset, ImageRecord, spread
from yoloqat.detectors import Detector, TorchPredictor, save_checkpoint
from yoloqat.errors import ConfigError
from yoloqat.evaluation import Evaluation, Matches, mean_average_precision, split_halves, subset
from yoloqat.evaluation.drops import Baseline, drop_results
from yoloqat.evaluation.expected_drop import expected_drop
from yoloqat.evaluation.fidelity import NOISE, mean
from yoloqat.evaluation.reference import Fidelity, Reference
from yoloqat.pipeline.models import check_scoring
from yoloqat.pipeline.ptq import Ptq
from yoloqat.pipeline.refine import check_image_count, refine_detector
from yoloqat.pipeline.run import Run
from yoloqat.pipeline.shards import ModelFile, SharedReference
from yoloqat.quant import quantization_disabled

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class MethodRow:
    """A method with what was found of it.

    Attributes:
        method: How ranges are found.
        fidelity: The noise.
        evaluation: The score; None where there are no labels.
        seconds: How long the ranges took, without the pass over the calibration images.
        found: More of the result's keys.
    """

    method: MethodSpec
    fidelity: Fidelity
    evaluation: Evaluation | None
    seconds: float
    found: dict[str, Any]

    @property
    def noise(self) -> NDArray[np.float64]:
        """The noise d by image."""
        return self.fidelity.measures[NOISE]

    def matches(self, half: Mask | None = None) -> Matches:
        """The matches of all images, or of those that ``half`` names."""
        if self.evaluation is None:
            raise TypeError(f"method {self.method} was not scored")
        return self.evaluation.matches if half is None else subset(self.evaluation.matches, half)


@dataclass(frozen=True)
class _Choice:
    """The method of the highest mAP, those that mAP cannot tell from it, and of all these the one of the least noise."""

    best: MethodRow
    tied: list[MethodRow]
    recommended: MethodRow


def compare_methods(
    ptq: Ptq,
    dataset: DetectionDataset | None,
    methods: Sequence[MethodSpec],
    config: EvalConfig,
    *,
    run: Run,
    images: Sequence[ImageRecord] | None = None,
    seed: int = 0,
    refine: Sequence[str] = (),
) -> dict[str, Any]:
    """Compare the models calibrated by several methods with the float model.

    Args:
        ptq: The swapped detector with its calibration images.
        dataset: The validation images; None measures the noise alone.
        methods: What to compare, at least one; a method that is named twice counts once.
        config: How to score.
        run: Where finished parts are kept.
        images: On which the noise is measured; None takes some of the data set's.
        seed: Seeds the halves and the resamples.
        refine: The steps of :func:`yoloqat.pipeline.refine.refine_detector` that the recommended method goes through besides.

    Returns:
        The keys ``baseline``, ``methods``, ``best``, ``recommended``, ``confirmed`` and more of the result of ``compare``; with
        ``refine`` also ``refined``, the row of the refined model, and the keys of the refinement.

    Raises:
        CalibrationError: There are too few images to refine on.
        ConfigError: There is no method, or the image size does not fit the model.
        DataError: The names of classes and categories do not match, no object counts, or there is no image.
    """
    methods = list(dict.fromkeys(methods))
    if not methods:
        raise ConfigError(
            f"methods to compare are {len(methods)}", expected="at least one", hint="name a method, e.g. mse"
        )
    check_scoring(ptq.detector.info, dataset, config)
    if refine:
        check_image_count(ptq.config.images)
    images = spread(dataset.images) if images is None and dataset is not None else images or ()
    baseline, float_key = None, {"weights": ptq.detector.source.sha256}
    with quantization_disabled(ptq.detector.module):
        # rectangular batches have other anchors; the noise is always measured in the letterbox
        file = _model_file(ptq.detector, float_key, run, floating=True)
        reference = run.reference(ptq.predictor, images, replace(config, rect=False), file=file)
        if dataset is not None:
            baseline = run.evaluate(ptq.predictor, dataset, config, label="float", model_key=float_key, file=file)
    rows = []
    for method in methods:
        seconds, key, label = ptq.apply(method), ptq.model_key(str(method)), str(method)
        file = _model_file(ptq.detector, key, run)
        fidelity = run.fidelity(reference, ptq.predictor, label=label, model_key=key, file=file)
        evaluation = None
        if dataset is not None:
            evaluation = run.evaluate(ptq.predictor, dataset, config, label=label, model_key=key, file=file)
        rows.append(MethodRow(method, fidelity, evaluation, seconds, ptq.calibrated_on()))
    choice = _choose(rows, seed=seed)
    refined: dict[str, Any] = {}
    if refine:
        refined = _refined(choice.recommended, refine, ptq, dataset, reference, baseline, config, run=run, seed=seed)
    return refined | {
        **compared_results(rows, baseline, reference, ptq.statistics.seconds, run=run, seed=seed),
        "quantized_layers": len(ptq.layers),
        **{name: value for name, value in ptq.calibrated_on().items() if name != "per_layer"},
    }


def compared_results(
    rows: Sequence[MethodRow],
    baseline: Evaluation | None,
    reference: Reference | SharedReference,
    seconds: float,
    *,
    run: Run,
    seed: int = 0,
) -> dict[str, Any]:
    """Return the results of a comparison.

    Args:
        rows: The methods, as measured.
        baseline: The float model's score; None without labels.
        reference: The float model's outputs.
        seconds: How long the pass over the calibration images took.
        run: Who watches.
        seed: Seeds the halves and the resamples.
    """
    choice = _choose(rows, seed=seed)
    return {
        "baseline": None if baseline is None else baseline.to_dict(),
        "methods": _method_results(rows, choice, baseline, seconds, run, seed=seed),
        "best": str(choice.best.method),
        "tied": [str(row.method) for row in choice.tied],
        "recommended": str(choice.recommended.method),
        "separated": _separated(rows),
        "confirmed": _confirmed(baseline, rows, reference, seed=seed),
        "fidelity_images": len(reference.images),
        "collection_seconds": seconds,
    }


def _model_file(detector: Detector, key: Any, run: Run, *, floating: bool = False) -> ModelFile | None:
    """Write a detector for the workers, and return its file; None where there are none."""
    if run.pool is None:
        return None
    path = run.part_path(run.key(model=key, worker_file=True), "model.safetensors")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(detector, path)
    return ModelFile(path.absolute(), run.threads, floating=floating)


def _choose(rows: Sequence[MethodRow], *, seed: int, half: Mask | None = None, seen: Mask | None = None) -> _Choice:
    """Choose among the methods.

    Args:
        rows: The methods.
        seed: Seeds the resamples.
        half: The images that are scored, of all.
        seen: The images whose noise counts, of those that the noise was measured on.
    """
    noises = {id(row): mean(row.noise if seen is None else row.noise[seen]).value for row in rows}
    quietest = min(rows, key=lambda row: noises[id(row)])
    if any(row.evaluation is None for row in rows):
        return _Choice(quietest, [row for row in rows if row is not quietest and _is_tied(row, quietest)], quietest)
    scores = {id(row): _map(row.matches(half)) for row in rows}
    best = max(rows, key=lambda row: scores[id(row)])
    winner = Baseline(best.matches(half), seed=seed)
    tied = [row for row in rows if row is not best and winner.drop(row.matches(half)).low <= 0.0]
    return _Choice(best, tied, min([best, *tied], key=lambda row: noises[id(row)]))


def _refined(
    row: MethodRow,
    steps: Sequence[str],
    ptq: Ptq,
    dataset: DetectionDataset | None,
    reference: Reference | SharedReference,
    baseline: Evaluation | None,
    config: EvalConfig,
    *,
    run: Run,
    seed: int,
) -> dict[str, Any]:
    """Return ``refined``, the row of a refined copy of a method's model, and the keys of the refinement."""
    label, key = f"{row.method} refined", ptq.model_key(str(row.method)) | {"refine": list(steps)}
    ptq.apply(row.method)
    detector = copy.deepcopy(ptq.detector)
    found = refine_detector(detector, ptq.records, steps=steps, imgsz=ptq.imgsz, batch=ptq.batch, run=run)
    predictor = TorchPredictor(detector, device=run.device)
    file = _model_file(detector, key, run)
    fidelity = run.fidelity(reference, predictor, label=label, model_key=key, file=file)
    scored: dict[str, Any] = {"map50_95": None, "drop": None, "drop_ci95": None}
    if dataset is not None and baseline is not None:
        evaluation = run.evaluate(predictor, dataset, config, label=label, model_key=key, file=file)
        drop = Baseline(baseline.matches, seed=seed).drop(evaluation.matches)
        scored = {"map50_95": evaluation.metrics.map50_95, **drop_results(drop)}
    noises = fidelity.to_dict()
    entry = {
        "method": row.method.kind,
        "params": row.method.params,
        **scored,
        **noises,
        **mean(fidelity.measures[NOISE] - row.noise).to_dict("d_behind_recommended"),
        **expected_drop(noises[NOISE], None if baseline is None else baseline.metrics.map50_95),
    }
    return {"refined": entry, **found}


def _is_tied(row: MethodRow, quietest: MethodRow) -> bool:
    """Return whether the noise of a method cannot be told from that of the least noisy one."""
    difference = mean(row.noise - quietest.noise)
    return difference.images < 2 or difference.low <= 0.0


def _map(matches: Matches) -> float:
    """Return mAP50-95; that of images without objects counts as 0."""
    found = float(mean_average_precision(matches)[0])
    return found if np.isfinite(found) else 0.0


def _method_results(
    rows: Sequence[MethodRow], choice: _Choice, baseline: Evaluation | None, seconds: float, run: Run, *, seed: int
) -> list[dict[str, Any]]:
    floating = None if baseline is None else Baseline(baseline.matches, seed=seed)
    winner = None if baseline is None else Baseline(choice.best.matches(), seed=seed)
    found = []
    for done, row in enumerate(rows, start=1):
        scored: dict[str, Any] = {"map50_95": None, "drop": None, "drop_ci95": None}
        if floating is not None and winner is not None and row.evaluation is not None:
            scored = {
                "map50_95": row.evaluation.metrics.map50_95,
                **drop_results(floating.drop(row.matches())),
                **drop_results(winner.drop(row.matches()), "behind_best"),
                "metrics": row.evaluation.to_dict(),
            }
        fidelity = row.fidelity.to_dict()
        map_float = None if baseline is None else baseline.metrics.map50_95
        found.append(
            {
                "method": row.method.kind,
                "params": row.method.params,
                **scored,
                **fidelity,
                **mean(row.noise - choice.recommended.noise).to_dict("d_behind_recommended"),
                **expected_drop(fidelity[NOISE], map_float),
                "calibration_seconds": seconds + row.seconds,
                "search_seconds": row.seconds,
                **({"per_layer": row.found["per_layer"]} if "per_layer" in row.found else {}),
            }
        )
        run.progress("intervals", done, len(rows))
    return found


def _separated(rows: Sequence[MethodRow]) -> dict[str, int]:
    """Return of how many pairs of methods the noise tells which one is better: the paired interval excludes zero."""
    pairs = list(combinations(rows, 2))
    differences = [mean(a.noise - b.noise) for a, b in pairs]
    told = sum(found.images > 1 and not found.low <= 0.0 <= found.high for found in differences)
    return {"pairs": len(pairs), "by_noise": told}


def _confirmed(
    baseline: Evaluation | None, rows: Sequence[MethodRow], reference: Reference | SharedReference, *, seed: int
) -> dict[str, Any] | None:
    """Choose the method on one half of the images as it is recommended on all, and measure it on the other half.

    The winner of several noisy figures looks better than it is; the other half tells what such a winner is worth. None where
    a half has no object, or no image on which the noise was measured.
    """
    ids = reference.image_ids if baseline is None else baseline.matches.image_ids
    if len(ids) < 2:
        return None
    chosen_on, confirmed_on = split_halves(len(ids), seed)
    seen, unseen = (
        np.isin(reference.image_ids, np.asarray(ids)[half]) & np.isfinite(rows[0].noise)
        for half in (chosen_on, confirmed_on)
    )
    if not seen.any() or not unseen.any():
        return None
    if baseline is None:
        row = _choose(rows, seed=seed, seen=seen).recommended
        return {"method": str(row.method), "images": int(unseen.sum()), **mean(row.noise[unseen]).to_dict(NOISE)}
    if not all(subset(baseline.matches, half).categories for half in (chosen_on, confirmed_on)):
        return None
    row = _choose(rows, seed=seed, half=chosen_on, seen=seen).recommended
    drop = Baseline(subset(baseline.matches, confirmed_on), seed=seed).drop(row.matches(confirmed_on))
    return {
        "method": str(row.method),
        "images": int(confirmed_on.sum()),
        **drop_results(drop),
        **mean(row.noise[unseen]).to_dict(NOISE),
    }
