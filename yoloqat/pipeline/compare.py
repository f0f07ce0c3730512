"""Every calibration method from one pass, each scored, the best chosen on one half of the images and confirmed on the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from yoloqat.config import EvalConfig, MethodSpec
from yoloqat.datasets import DetectionDataset
from yoloqat.evaluation import Evaluation, split_halves, subset
from yoloqat.pipeline.drops import Baseline, drop_results, part_map
from yoloqat.pipeline.ptq import Ptq
from yoloqat.pipeline.run import Run
from yoloqat.quant import quantization_disabled


@dataclass(frozen=True)
class _Row:
    method: MethodSpec
    evaluation: Evaluation
    seconds: float


def compare_methods(
    ptq: Ptq, dataset: DetectionDataset, methods: Sequence[MethodSpec], config: EvalConfig, *, run: Run, seed: int = 0
) -> dict[str, Any]:
    """Score the float model and the model calibrated by each method.

    Args:
        ptq: The swapped detector with its calibration images.
        dataset: The validation images.
        methods: What to compare, at least one.
        config: How to score.
        run: Where finished parts are kept.
        seed: Seeds the halves and the resamples.

    Returns:
        The keys ``baseline``, ``methods``, ``best``, ``confirmed`` and more of the result of ``compare``.
    """
    with quantization_disabled(ptq.detector.module):
        baseline = run.evaluate(
            ptq.predictor, dataset, config, label="float", model_key={"weights": ptq.detector.source.sha256}
        )
    rows = []
    for method in methods:
        seconds = ptq.apply(method)
        evaluation = run.evaluate(
            ptq.predictor, dataset, config, label=str(method), model_key=ptq.model_key(str(method))
        )
        rows.append(_Row(method, evaluation, seconds))
    reference = Baseline(baseline.matches, seed=seed)
    results: list[dict[str, Any]] = []
    for done, row in enumerate(rows, start=1):
        results.append(
            {
                "method": row.method.kind,
                "params": row.method.params,
                "map50_95": row.evaluation.metrics.map50_95,
                **drop_results(reference.drop(row.evaluation.matches)),
                "calibration_seconds": ptq.statistics.seconds + row.seconds,
                "search_seconds": row.seconds,
                "metrics": row.evaluation.to_dict(),
            }
        )
        run.progress("intervals", done, len(rows))
    best, confirmed = _best(baseline, rows, seed=seed)
    return {
        "baseline": baseline.to_dict(),
        "methods": results,
        "best": best,
        "confirmed": confirmed,
        "collection_seconds": ptq.statistics.seconds,
        "calibration_images": ptq.statistics.images,
        "quantized_layers": len(ptq.layers),
    }


def _best(baseline: Evaluation, rows: Sequence[_Row], *, seed: int) -> tuple[str, dict[str, Any] | None]:
    """Choose the method of the highest mAP on one half of the images and measure its drop on the other half.

    The winner of several noisy figures looks better than it is; the other half tells what it is worth. Where a half has no
    object the choice is made on all images and stays unconfirmed.
    """
    images = len(baseline.matches.image_ids)
    halves = split_halves(images, seed) if images > 1 else ()
    if not all(subset(baseline.matches, half).categories for half in halves) or not halves:  # a half without objects
        return str(max(rows, key=lambda row: row.evaluation.metrics.map50_95 or 0.0).method), None
    chosen_on, confirmed_on = halves
    best = max(rows, key=lambda row: part_map(row.evaluation, chosen_on))
    interval = Baseline(subset(baseline.matches, confirmed_on), seed=seed).drop(
        subset(best.evaluation.matches, confirmed_on)
    )
    return str(best.method), {
        "method": str(best.method),
        "images": int(confirmed_on.sum()),
        **drop_results(interval),
    }
