"""The ranking of a study: every item with its effect, rank and ties, the two evaluations, and how sure the ranking is."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloqat.datasets import DetectionDataset
from yoloqat.evaluation import Detections, Evaluation, Resampling, bootstrap, score
from yoloqat.evaluation.interval import ONE_IMAGE, difference_interval
from yoloqat.sensitivity.adaptive import Posterior
from yoloqat.sensitivity.effects import Effect, Measured, tied, with_least_error
from yoloqat.sensitivity.items import BASE, OTHER, Item, item_is_finer
from yoloqat.sensitivity.proxies import Noise, rank_correlation
from yoloqat.sensitivity.scanner import Scanner
from yoloqat.sensitivity.settings import LEAVE_ONE_OUT
from yoloqat.sensitivity.study import Study, WorkResult


@dataclass(frozen=True, eq=False)
class RankedItem:
    """One item with all that is known of it.

    Attributes:
        item: What was switched.
        effect: What that did, as measured.
        estimate: The effect as it is shown: as measured, or in an adaptive scan drawn towards what the proxies predict.
        interval: The 95 % interval of the measured effect, by influence or by bootstrap; the estimate lies in it too.
        rank: One more than the number of items that lie wholly above it.
        tied_with: Items whose intervals overlap its own.
        noise: What quantization does to its tensors.
        head_error: Error of the head's output on the first batch.
        forward: Seconds of its replays, and of other items that ran together with it and stand under it.
        scoring: Seconds of NMS and matching.
        share: Share of a forward's multiply-adds that its replay costs.
        changed: Images whose output it changed.
        chance: Probability of belonging to the first k, in an adaptive scan.
    """

    item: Item
    effect: Effect
    estimate: float
    interval: tuple[float, float]
    rank: int
    tied_with: int
    noise: Noise
    head_error: float
    forward: float
    scoring: float
    share: float
    changed: int
    chance: float | None = None


def measured(study: Study, scanner: Scanner) -> Measured:
    """Return what the results of the base model say, to compare items with."""
    positions = [scanner.positions(batch) for batch in range(len(scanner.batches))]
    sign = 1 if item_is_finer(scanner.edges, scanner.scan) else -1
    return Measured(scanner.truth, positions, study.results(BASE), sign=sign)


Chosen = Mapping[str, Collection[int]]
"""The batches of each model that count; where it is None, all that are finished do."""


def chosen_results(study: Study, name: str, batches: Collection[int] | None) -> dict[int, WorkResult]:
    """Return the results of a model on some batches, or on all that are finished."""
    return {batch: found for batch, found in study.results(name).items() if batches is None or batch in batches}


def rank_items(
    study: Study,
    scanner: Scanner,
    known: Measured,
    *,
    noises: Mapping[str, Noise],
    shares: Mapping[str, float],
    chosen: Chosen | None = None,
) -> list[RankedItem]:
    """Return every item that has results with its effect and rank, by falling effect.

    Args:
        study: The results.
        scanner: The items.
        known: What the base model's results say.
        noises: By item.
        shares: By item.
        chosen: The batches of each item that count.
    """
    found = {
        item: results
        for item in scanner.items
        if (results := chosen_results(study, item.name, None if chosen is None else chosen.get(item.name, ())))
    }
    effects = with_least_error([known.effect(results) for results in found.values()])
    ranking = [
        RankedItem(
            item=item,
            effect=effect,
            estimate=effect.effect,
            interval=effect.interval,
            rank=0,
            tied_with=0,
            noise=noises[item.name],
            head_error=results[min(results)].head_error,
            forward=sum(result.forward for result in results.values()),
            scoring=sum(result.scoring for result in results.values()),
            share=shares[item.name],
            changed=sum(result.changed for result in results.values()),
        )
        for (item, results), effect in zip(found.items(), effects, strict=True)
    ]
    return by_effect(ranking)


def by_effect(ranking: Sequence[RankedItem]) -> list[RankedItem]:
    """Return the items sorted by falling effect, with their ranks and ties."""
    return _with_ranks(sorted(ranking, key=lambda entry: (-entry.estimate, entry.item.name)))


def _with_ranks(order: Sequence[RankedItem]) -> list[RankedItem]:
    """Return the items in the order given, with their ranks and ties."""
    places = tied([entry.interval for entry in order])
    return [replace(entry, rank=rank, tied_with=others) for entry, (rank, others) in zip(order, places, strict=True)]


def bootstrapped(
    ranking: Sequence[RankedItem], study: Study, known: Measured, *, first: int, seed: int
) -> list[RankedItem]:
    """Return a ranking whose first items have intervals from the paired bootstrap instead of the influence.

    Args:
        ranking: By falling effect.
        study: The results.
        known: What the base model's results say.
        first: Number of items to resample.
        seed: Seeds the resamples.
    """
    start = time.perf_counter()
    bases: dict[tuple[int, ...], NDArray[np.float64]] = {}
    done = []
    for entry in ranking[:first]:
        results = study.results(entry.item.name)
        batches = tuple(sorted(results))
        resampling = Resampling(entry.effect.images, seed=seed)
        if batches not in bases:
            bases[batches] = bootstrap(known.matches(batches=batches), resampling)
        own = bootstrap(known.matches(results), resampling)
        finer, coarser = (own, bases[batches]) if known.sign > 0 else (bases[batches], own)
        found = difference_interval(entry.effect.effect, finer, coarser, images=entry.effect.images)
        interval = (found.low, found.high) if found.low < found.high else entry.effect.interval
        done.append(replace(entry, interval=interval))
    known.seconds += time.perf_counter() - start
    return by_effect([*done, *ranking[first:]])


def with_posterior(ranking: Sequence[RankedItem], posterior: Posterior) -> list[RankedItem]:
    """Return a ranking with the estimates of an adaptive scan, in the order of its posterior.

    The prior moves estimates, not intervals: these are around what was measured, as wide as the images seen leave it open.
    """
    own = {entry.item.name: entry for entry in ranking}
    found = []
    for index in posterior.order():
        entry = own[posterior.names[index]]
        found.append(replace(entry, estimate=float(posterior.means[index]), chance=float(posterior.chances[index])))
    return _with_ranks(found)


def evaluations(
    study: Study, scanner: Scanner, dataset: DetectionDataset, *, chosen: Chosen | None = None
) -> tuple[Evaluation, Evaluation]:
    """Return the full evaluations of the float and of the quantized model on the images that both ran on."""
    found = []
    batches = study.results(OTHER).keys() if chosen is None else chosen[OTHER]
    for name in (BASE, OTHER):
        results = chosen_results(study, name, batches)
        parts = [
            Detections.from_bytes(result.detections or b"", f"{study.path}: {name} {batch}")
            for batch, result in results.items()
        ]
        images = {record.image_id for batch in results for record in scanner.batches[batch].records}
        part = replace(
            dataset,
            images=tuple(record for record in dataset.images if record.image_id in images),
            annotations=dataset.annotations
            | {
                "images": [entry for entry in dataset.annotations["images"] if entry["id"] in images],
                "annotations": [entry for entry in dataset.annotations["annotations"] if entry["image_id"] in images],
            },
        )
        found.append(score(part, Detections.joined(parts), scanner.detector.info.names))
    base, other = found
    return (other, base) if scanner.scan.mode == LEAVE_ONE_OUT else (base, other)


def item_results(entry: RankedItem, *, metric: str, gap: float | None, finer: bool, mode: str) -> dict[str, Any]:
    """Return an item of the ranking as the result shows it.

    Args:
        entry: The item.
        metric: Name of the metric.
        gap: Metric of the float model minus that of the quantized one.
        finer: Whether items are finer than the base model.
        mode: Of the scan.
    """
    low, high = entry.interval
    bounded = math.isfinite(high - low)
    # in leave-one-out an item closes a part of the gap, or widens it where it is coarser than the base
    drop = (
        entry.estimate
        if mode != LEAVE_ONE_OUT
        else None
        if gap is None
        else gap - (entry.estimate if finer else -entry.estimate)
    )
    return {
        "name": entry.item.name,
        "quantizers": list(entry.item.edges),
        "layers": list(entry.item.layers),
        "map50_95": entry.effect.value if metric == "map50_95" else None,
        "value": entry.effect.value,
        "drop": drop,
        "effect": entry.estimate,
        "effect_ci95": [low, high] if bounded else None,
        "effect_ci95_reason": None if bounded else ONE_IMAGE,
        "measured_effect": entry.effect.effect,
        "chance": entry.chance,
        "decided": bool(low > 0 or high < 0),
        "rank": entry.rank,
        "tied": entry.tied_with > 0,
        "tied_with": entry.tied_with,
        "images": entry.effect.images,
        "images_needed": entry.effect.images_needed,
        "sqnr_db": entry.noise.sqnr_db,
        "nmse": entry.noise.nmse,
        "fisher": entry.noise.fisher,
        "head_error": entry.head_error,
        "images_changed": entry.changed,
        "forward_seconds": entry.forward,
        "scoring_seconds": entry.scoring,
        "forward_share": entry.share,
    }


def summary(ranking: Sequence[RankedItem]) -> dict[str, Any]:
    """Return how much of the ranking is more than noise.

    Returns:
        ``items``; ``differ_from_zero``; ``tied``; ``share_tied``; for the items that do not differ from zero how many images
        are needed to tell an effect of their measured size from none, as ``images_needed: {median, largest}``; and the rank
        correlation of every proxy with the measured effect, positive where it ranks as the measurement does.
    """
    undecided = [entry for entry in ranking if not entry.interval[0] > 0 and not entry.interval[1] < 0]
    needed = sorted(entry.effect.images_needed or math.inf for entry in undecided)
    ties = sum(entry.tied_with > 0 for entry in ranking)
    effects = [entry.estimate for entry in ranking]
    proxies = {
        "sqnr_db": [-(math.inf if entry.noise.sqnr_db is None else entry.noise.sqnr_db) for entry in ranking],
        "nmse": [entry.noise.nmse for entry in ranking],
        "head_error": [entry.head_error for entry in ranking],
        "fisher": [entry.noise.fisher for entry in ranking],
    }
    return {
        "items": len(ranking),
        "differ_from_zero": len(ranking) - len(undecided),
        "tied": ties,
        "share_tied": ties / len(ranking) if ranking else 0.0,
        "images_needed": {"median": _finite(needed[len(needed) // 2]), "largest": _finite(needed[-1])}
        if needed
        else None,
        "proxies": {name: rank_correlation(values, effects) for name, values in proxies.items()},
    }


def _finite(value: float) -> int | None:
    return int(value) if math.isfinite(value) else None
