"""What a study found: the baseline, every item's row, and how sure the ranking is."""

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
from yoloqat.sensitivity.adaptive import Belief
from yoloqat.sensitivity.effects import Effect, Measured, tied, with_least_error
from yoloqat.sensitivity.items import Item
from yoloqat.sensitivity.models import BASE, OTHER, item_is_finer
from yoloqat.sensitivity.proxies import Noise, rank_correlation
from yoloqat.sensitivity.scanner import Scanner
from yoloqat.sensitivity.settings import LEAVE_ONE_OUT
from yoloqat.sensitivity.study import Finding, Study

PROXIES = ("sqnr_db", "nmse", "head_error", "fisher")
"""Estimates that are compared with the measured effects; all but the first rise with sensitivity."""


@dataclass(frozen=True, eq=False)
class Row:
    """One item with all that is known of it.

    Attributes:
        item: What was switched.
        effect: What that did, as measured.
        estimate: The effect as it is shown: as measured, or in an adaptive scan drawn towards what the proxies predict.
        interval: The 95 % interval of the measured effect, by influence or by bootstrap; the estimate lies in it too.
        rank: One more than the number of items that lie wholly above it.
        tied_with: Items whose intervals overlap its own.
        noise: What quantization does to its tensors.
        head_error: Error of the head's output on the first chunk.
        forward: Seconds of its replays.
        scoring: Seconds of suppression and matching.
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
    """Return what the findings of the base model say, to compare items with."""
    positions = [scanner.positions(chunk) for chunk in range(len(scanner.chunks))]
    sign = 1 if item_is_finer(scanner.edges, scanner.scan) else -1
    return Measured(scanner.truth, positions, study.findings(BASE), sign=sign)


Chosen = Mapping[str, Collection[int]]
"""The chunks of each model that count; where it is None, all that are finished do."""


def chosen_findings(study: Study, name: str, chunks: Collection[int] | None) -> dict[int, Finding]:
    """Return the findings of a model on some chunks, or on all that are finished."""
    return {chunk: found for chunk, found in study.findings(name).items() if chunks is None or chunk in chunks}


def rows_of(
    study: Study,
    scanner: Scanner,
    known: Measured,
    *,
    noises: Mapping[str, Noise],
    shares: Mapping[str, float],
    chosen: Chosen | None = None,
) -> list[Row]:
    """Return a row per item that has findings, by falling effect.

    Args:
        study: The findings.
        scanner: The items.
        known: What the base model's findings say.
        noises: By item.
        shares: By item.
        chosen: The chunks of each item that count.
    """
    found = {
        item: findings
        for item in scanner.items
        if (findings := chosen_findings(study, item.name, None if chosen is None else chosen.get(item.name, ())))
    }
    effects = with_least_error([known.effect(findings) for findings in found.values()])
    rows = [
        Row(
            item=item,
            effect=effect,
            estimate=effect.effect,
            interval=effect.interval,
            rank=0,
            tied_with=0,
            noise=noises[item.name],
            head_error=findings[min(findings)].head_error,
            forward=sum(finding.forward for finding in findings.values()),
            scoring=sum(finding.scoring for finding in findings.values()),
            share=shares[item.name],
            changed=sum(finding.changed for finding in findings.values()),
        )
        for (item, findings), effect in zip(found.items(), effects, strict=True)
    ]
    return ranked(rows)


def ranked(rows: Sequence[Row]) -> list[Row]:
    """Return rows by falling effect with their ranks and ties."""
    return _placed(sorted(rows, key=lambda row: (-row.estimate, row.item.name)))


def _placed(order: Sequence[Row]) -> list[Row]:
    """Return rows as they are ordered, with their ranks and ties."""
    places = tied([row.interval for row in order])
    return [replace(row, rank=rank, tied_with=others) for row, (rank, others) in zip(order, places, strict=True)]


def bootstrapped(
    rows: Sequence[Row], study: Study, known: Measured, *, first: int, seed: int, chosen: Chosen | None = None
) -> list[Row]:
    """Return rows whose first ones have intervals from the paired bootstrap instead of the influence.

    Args:
        rows: By falling effect.
        study: The findings.
        known: What the base model's findings say.
        first: Number of rows to resample.
        seed: Seeds the resamples.
        chosen: The chunks of each item that count.
    """
    start = time.perf_counter()
    bases: dict[tuple[int, ...], NDArray[np.float64]] = {}
    done = []
    for row in rows[:first]:
        findings = chosen_findings(study, row.item.name, None if chosen is None else chosen.get(row.item.name, ()))
        chunks = tuple(sorted(findings))
        resampling = Resampling(row.effect.images, seed=seed)
        if chunks not in bases:
            bases[chunks] = bootstrap(known.matches(chunks=chunks), resampling)
        own = bootstrap(known.matches(findings), resampling)
        finer, coarser = (own, bases[chunks]) if known.sign > 0 else (bases[chunks], own)
        found = difference_interval(row.effect.effect, finer, coarser, images=row.effect.images)
        interval = (found.low, found.high) if found.low < found.high else row.effect.interval
        done.append(replace(row, interval=interval))
    known.seconds += time.perf_counter() - start
    return ranked([*done, *rows[first:]])


def believed(rows: Sequence[Row], belief: Belief) -> list[Row]:
    """Return rows with the estimates of an adaptive scan, in the order of its belief.

    The prior moves estimates, not intervals: these are around what was measured, as wide as the images seen leave it open.
    """
    own = {row.item.name: row for row in rows}
    found = []
    for index in belief.order():
        row = own[belief.names[index]]
        found.append(replace(row, estimate=float(belief.means[index]), chance=float(belief.chances[index])))
    return _placed(found)


def evaluations(
    study: Study, scanner: Scanner, dataset: DetectionDataset, *, chosen: Chosen | None = None
) -> tuple[Evaluation, Evaluation]:
    """Return the full evaluations of the float and of the quantized model on the images that both ran on."""
    found = []
    chunks = study.findings(OTHER).keys() if chosen is None else chosen[OTHER]
    for name in (BASE, OTHER):
        findings = chosen_findings(study, name, chunks)
        parts = [
            Detections.from_bytes(finding.detections or b"", f"{study.path}: {name} {chunk}")
            for chunk, finding in findings.items()
        ]
        images = {record.image_id for chunk in findings for record in scanner.chunks[chunk].records}
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


def row_results(row: Row, *, metric: str, gap: float | None, finer: bool, mode: str) -> dict[str, Any]:
    """Return a row as the result shows it.

    Args:
        row: The row.
        metric: Name of the metric.
        gap: Metric of the float model minus that of the quantized one.
        finer: Whether items are finer than the base model.
        mode: Of the scan.
    """
    low, high = row.interval
    bounded = math.isfinite(high - low)
    # in leave-one-out an item closes a part of the gap, or widens it where it is coarser than the base
    drop = (
        row.estimate
        if mode != LEAVE_ONE_OUT
        else None
        if gap is None
        else gap - (row.estimate if finer else -row.estimate)
    )
    return {
        "name": row.item.name,
        "quantizers": list(row.item.edges),
        "layers": list(row.item.layers),
        "map50_95": row.effect.value if metric == "map50_95" else None,
        "value": row.effect.value,
        "drop": drop,
        "effect": row.estimate,
        "effect_ci95": [low, high] if bounded else None,
        "effect_ci95_reason": None if bounded else ONE_IMAGE,
        "measured_effect": row.effect.effect,
        "chance": row.chance,
        "decided": bool(low > 0 or high < 0),
        "rank": row.rank,
        "tied": row.tied_with > 0,
        "tied_with": row.tied_with,
        "images": row.effect.images,
        "images_needed": row.effect.images_needed,
        "sqnr_db": row.noise.sqnr_db,
        "nmse": row.noise.nmse,
        "fisher": row.noise.fisher,
        "head_error": row.head_error,
        "images_changed": row.changed,
        "forward_seconds": row.forward,
        "scoring_seconds": row.scoring,
        "forward_share": row.share,
    }


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Return how much of the ranking is more than noise.

    Returns:
        ``items``; ``differ_from_zero``; ``tied``; ``share_tied``; for the items that do not differ from zero how many images
        would tell an effect of their measured size from none, as ``images_needed: {median, largest}``; and the rank
        correlation of every proxy with the measured effect, positive where it ranks as the measurement does.
    """
    undecided = [row for row in rows if not row.interval[0] > 0 and not row.interval[1] < 0]
    needed = sorted(row.effect.images_needed or math.inf for row in undecided)
    ties = sum(row.tied_with > 0 for row in rows)
    effects = [row.estimate for row in rows]
    proxies = {
        "sqnr_db": [-(math.inf if row.noise.sqnr_db is None else row.noise.sqnr_db) for row in rows],
        "nmse": [row.noise.nmse for row in rows],
        "head_error": [row.head_error for row in rows],
        "fisher": [row.noise.fisher for row in rows],
    }
    return {
        "items": len(rows),
        "differ_from_zero": len(rows) - len(undecided),
        "tied": ties,
        "share_tied": ties / len(rows) if rows else 0.0,
        "images_needed": {"median": _finite(needed[len(needed) // 2]), "largest": _finite(needed[-1])}
        if needed
        else None,
        "proxies": {name: rank_correlation(values, effects) for name, values in proxies.items()},
    }


def _finite(value: float) -> int | None:
    return int(value) if math.isfinite(value) else None
