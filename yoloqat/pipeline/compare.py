"""Every calibration method from one pass, each scored, with the best and all that cannot be told apart from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from yoloqat.config import EvalConfig, MethodSpec
from yoloqat.datasets import DetectionDataset
from yoloqat.errors import ConfigError
from yoloqat.evaluation import Evaluation, split_halves, subset
from yoloqat.evaluation.drops import Baseline, drop_results, part_map
from yoloqat.pipeline.models import check_scoring
from yoloqat.pipeline.ptq import Ptq
from yoloqat.pipeline.run import Run
from yoloqat.quant import quantization_disabled


@dataclass(frozen=True)
class _Row:
    method: MethodSpec
    evaluation: Evaluation
    seconds: float
    found: dict[str, Any]

    @property
    def score(self) -> float:
        """MAP on all images; that of a data set without objects counts as 0."""
        return self.evaluation.metrics.map50_95 or 0.0


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

    Raises:
        ConfigError: There is no method, or the image size does not fit the model.
        DataError: The names of classes and categories do not match, or no object counts.
    """
    if not methods:
        raise ConfigError(
            f"methods to compare are {len(methods)}", expected="at least one", hint="name a method, e.g. mse"
        )
    check_scoring(ptq.detector.info, dataset, config)
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
        rows.append(_Row(method, evaluation, seconds, ptq.calibrated_on()))
    best = max(rows, key=lambda row: row.score)
    reference, winner = Baseline(baseline.matches, seed=seed), Baseline(best.evaluation.matches, seed=seed)
    results: list[dict[str, Any]] = []
    tied: list[str] = []
    for done, row in enumerate(rows, start=1):
        behind = winner.drop(row.evaluation.matches)
        if row is not best and behind.low <= 0.0:
            tied.append(str(row.method))
        results.append(
            {
                "method": row.method.kind,
                "params": row.method.params,
                "map50_95": row.evaluation.metrics.map50_95,
                **drop_results(reference.drop(row.evaluation.matches)),
                **drop_results(behind, "behind_best"),
                "calibration_seconds": ptq.statistics.seconds + row.seconds,
                "search_seconds": row.seconds,
                "metrics": row.evaluation.to_dict(),
                **({"per_layer": row.found["per_layer"]} if "per_layer" in row.found else {}),
            }
        )
        run.progress("intervals", done, len(rows))
    return {
        "baseline": baseline.to_dict(),
        "methods": results,
        "best": str(best.method),
        "tied": tied,
        "confirmed": _confirmed(baseline, rows, seed=seed),
        "collection_seconds": ptq.statistics.seconds,
        "quantized_layers": len(ptq.layers),
        **{name: value for name, value in ptq.calibrated_on().items() if name != "per_layer"},
    }


def _confirmed(baseline: Evaluation, rows: Sequence[_Row], *, seed: int) -> dict[str, Any] | None:
    """Choose the method of the highest mAP on one half of the images and measure its drop on the other half.

    The winner of several noisy figures looks better than it is; the other half tells what such a winner is worth. None where
    a half has no object.
    """
    images = len(baseline.matches.image_ids)
    halves = split_halves(images, seed) if images > 1 else ()
    if not all(subset(baseline.matches, half).categories for half in halves) or not halves:  # a half without objects
        return None
    chosen_on, confirmed_on = halves
    best = max(rows, key=lambda row: part_map(row.evaluation, chosen_on))
    interval = Baseline(subset(baseline.matches, confirmed_on), seed=seed).drop(
        subset(best.evaluation.matches, confirmed_on)
    )
    return {"method": str(best.method), "images": int(confirmed_on.sum()), **drop_results(interval)}
