"""The noise budget of a calibrated detector: measured, with its curve, the layers to leave float, and its results."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloqat.calibration.cache import statistics_of
from yoloqat.calibration.explain import histograms
from yoloqat.detectors import Detector
from yoloqat.errors import CalibrationError
from yoloqat.evaluation.expected_drop import expected_drop
from yoloqat.evaluation.fidelity import NOISE, mean
from yoloqat.pipeline.run import Run
from yoloqat.provenance import digest
from yoloqat.sensitivity.curve import MEASURED, CurvePoint, corrected, floatable, knee, within
from yoloqat.sensitivity.items import Item
from yoloqat.sensitivity.noise import (
    ACTIVATIONS,
    FEWEST,
    WEIGHTS,
    WHOLE,
    BudgetScan,
    NoiseBudget,
    order_is_settled,
    root_sum_squares,
)
from yoloqat.sensitivity.study import Study

BUDGET_CHART = "budget.png"


@dataclass(frozen=True, eq=False)
class MeasuredBudget:
    """A noise budget with its curve.

    Attributes:
        budget: The noises.
        curve: By rising number of float items.
        curve_images: On how many images the curve's noises were measured.
        held_out: Whether these are other images than those that ranked.
        chosen: The items whose layers the ignore list names.
        reason: Why these, or why none.
    """

    budget: NoiseBudget
    curve: tuple[CurvePoint, ...]
    curve_images: int
    held_out: bool
    chosen: tuple[Item, ...]
    reason: str

    @property
    def ignored(self) -> list[str]:
        """The layers of the ignore list."""
        return list(dict.fromkeys(layer for item in self.chosen for layer in item.layers))


def measure_noise(study: Study, scan: BudgetScan, *, first: int, run: Run) -> NoiseBudget:
    """Measure each quantizer and each item alone, batch by batch, until the order of the first items is settled.

    Args:
        study: Keeps each finished batch, so that an interrupted budget goes on.
        scan: The images, and what is switched.
        first: Items whose order must be known.
        run: Who watches.
    """
    parts: list[Mapping[str, Sequence[float]]] = []
    sizes = [len(plan.records) for plan in scan.batches]
    settled = False
    for batch in range(len(sizes)):
        parts.append(_kept(study, scan, batch, None, run, total=len(sizes)))
        seen = sum(sizes[: batch + 1])
        if seen >= min(FEWEST, sum(sizes)) and batch + 1 < len(sizes):
            values = scan.budget(parts)
            settled = order_is_settled(np.stack([values.values[item.name] for item in scan.items]), first)
            if settled:
                break
    return scan.budget(parts, settled=settled)


def _kept(
    study: Study, scan: BudgetScan, batch: int, on: dict[str, list[str]] | None, run: Run, *, total: int
) -> dict[str, list[float]]:
    """Return the noises of a batch, from the study where they are known."""
    names = scan.names if on is None else list(on)
    size = len(scan.batches[batch].records)

    def progress(done: int, of: int) -> None:
        run.progress(f"noise budget, batch {batch + 1} of at most {total}" if on is None else "noise curve", done, of)

    def make() -> dict[str, list[float | None]]:
        found = scan.run(batch, on, progress=progress)
        return {name: [value if math.isfinite(value) else None for value in found[name]] for name in names}

    def read(kept: dict[str, Any]) -> dict[str, list[float]]:
        found = {name: [math.nan if value is None else float(value) for value in kept[name]] for name in names}
        if any(len(values) != size for values in found.values()):
            raise ValueError(f"noises of other than {size} images")
        return found

    what = (
        "alone" if on is None else digest([[name, *edges] for name, edges in on.items()])
    )  # orders differ between runs
    found: dict[str, list[float]] = study.once(f"noise of {len(scan.images)} images, batch {batch}: {what}", make, read)
    return found


def complete_budget(
    study: Study,
    scan: BudgetScan,
    budget: NoiseBudget,
    order: Sequence[Item],
    *,
    run: Run,
    map_float: float | None = None,
    max_drop: float | None = None,
) -> MeasuredBudget:
    """Follow the curve of float items in a given order, and choose how many of them to leave float.

    Args:
        study: Keeps what is measured.
        scan: The images, and what is switched.
        budget: The noises.
        order: The items, the noisiest first; those that hold no layer are passed over.
        run: Who watches.
        map_float: mAP50-95 of the float model, where there are labels.
        max_drop: The drop to stay within; of mAP where there are labels, else as a share of the float model's. None takes the
            knee of the curve.
    """
    order = floatable(order)
    sizes = [len(plan.records) for plan in scan.batches]
    ranked = np.searchsorted(np.cumsum(sizes), budget.images) + 1
    others = list(range(int(ranked), len(sizes)))
    batches = others or list(range(int(ranked)))
    sets = {str(count): scan.without(order[:count]) for count in MEASURED if count <= len(order)}
    parts = [_kept(study, scan, batch, sets, run, total=len(batches)) for batch in batches]
    quantized = {layer for item in scan.items for layer in item.layers}
    predicted = [budget.left([item.name for item in order[:count]]) for count in range(len(order) + 1)]
    found = {count: mean(_joined(parts, str(count))) for count in MEASURED if count <= len(order)}
    estimated = corrected(predicted, {count: own.value for count, own in found.items() if own.images})
    points = []
    for count in range(len(order) + 1):
        layers = {layer for item in order[:count] for layer in item.layers}
        points.append(
            CurvePoint(
                float_layers=len(layers),
                items=count,
                name=order[count - 1].name if count else None,
                d_predicted=predicted[count],
                d_estimated=estimated[count],
                int8_mac_share=scan.mac_share(quantized - layers),
                d=found.get(count),
            )
        )
    chosen, reason = _chosen(points, map_float, max_drop)
    measured = MeasuredBudget(budget, tuple(points), sum(sizes[batch] for batch in batches), bool(others), (), reason)
    return replace(measured, chosen=tuple(order[:chosen]))


def _joined(parts: Sequence[Mapping[str, Sequence[float]]], name: str) -> NDArray[np.float64]:
    return np.concatenate([np.asarray(part[name], dtype=np.float64) for part in parts])


def _chosen(points: Sequence[CurvePoint], map_float: float | None, max_drop: float | None) -> tuple[int, str]:
    """Return how many items to leave float, and why."""
    if max_drop is None:
        count = knee(points)
        if not count:
            return 0, "nothing pays: no item takes away much more of the noise than of the multiply-adds in INT8"
        start, point = points[0], points[count]
        macs = f"multiply-adds in INT8 {100.0 * start.int8_mac_share:.0f} to {100.0 * point.int8_mac_share:.0f} %"
        return count, f"the knee of the curve: d {start.d_estimated:.3g} to {point.d_estimated:.3g}, {macs}"
    name = "expected_relative_drop" if map_float is None else "expected_drop"
    drops = {point.items: expected_drop(point.d_estimated, map_float)[name] for point in points}
    found = within(points, drops, max_drop)
    if found is None or points[found].int8_mac_share <= 0.0:
        return 0, f"no model with a layer in INT8 is expected to stay within a drop of {max_drop:g}"
    if not found:
        return 0, f"the expected drop {drops[0]:.4f} is within {max_drop:g} with every layer in INT8"
    return found, f"the least that is expected to stay within a drop of {max_drop:g}: {drops[found]:.4f}"


def budget_results(measured: MeasuredBudget, map_float: float | None = None) -> dict[str, Any]:
    """Return the result keys of a noise budget, beside those of its items.

    Args:
        measured: The budget.
        map_float: mAP50-95 of the float model, where there are labels.
    """
    budget = measured.budget
    shares = budget.quantizer_shares()
    quantizers = [
        {
            "name": item.name,
            "weight": item.name in budget.weights,
            **mean(budget.quantizer_values(item)).to_dict(NOISE),
            **shares[item.name].to_dict("share"),
        }
        for item in budget.quantizers
    ]
    whole, predicted = budget.d(WHOLE), mean(budget.predicted)
    items_predicted = mean(root_sum_squares(np.stack([budget.values[item.name] for item in budget.items])))
    return {
        **whole.to_dict(NOISE),
        **expected_drop(whole.value, map_float),
        **predicted.to_dict("d_predicted"),
        "additivity": predicted.value / whole.value if whole.value > 0 else None,
        "items_d_predicted": _known(items_predicted.value),
        "images": budget.images,
        "settled": budget.settled,
        "weights": budget.d(WEIGHTS).to_dict(NOISE),
        "activations": budget.d(ACTIVATIONS).to_dict(NOISE),
        "quantizers": sorted(quantizers, key=lambda entry: -(entry["share"] or 0.0)),
        "curve": [
            {
                "float_layers": point.float_layers,
                "items": point.items,
                "name": point.name,
                "d_predicted": _known(point.d_predicted),
                "d_estimated": _known(point.d_estimated),
                "int8_mac_share": point.int8_mac_share,
                **expected_drop(point.d_estimated, map_float),
                **({} if point.d is None else point.d.to_dict(NOISE)),
            }
            for point in measured.curve
        ],
        "curve_images": measured.curve_images,
        "curve_held_out": measured.held_out,
        "ignore": measured.ignored,
        "ignore_reason": measured.reason,
    }


def budget_histograms(detector: Detector, checkpoint: Path) -> dict[str, Any]:
    """Return the key ``histograms`` of a noise budget: those of the weights, and of the activations where the statistics lie.

    Args:
        detector: Calibrated.
        checkpoint: Its file, beside which the statistics of its calibration are looked for.
    """
    statistics = None
    with suppress(CalibrationError):
        statistics = statistics_of(detector, checkpoint)
    return {"histograms": histograms(detector, statistics)}


def _known(value: float) -> float | None:
    """Return a noise, or None where the float model saw nothing on any image."""
    return value if math.isfinite(value) else None


def item_noise(budget: NoiseBudget) -> dict[str, dict[str, Any]]:
    """Return the result keys of each item that the budget knows: its noise, its share, and their intervals."""
    shares = budget.shares()
    return {
        item.name: {**budget.d(item.name).to_dict(NOISE), **shares[item.name].to_dict("share")} for item in budget.items
    }


def by_share(budget: NoiseBudget) -> list[Item]:
    """Return the items by falling share."""
    shares = budget.shares()
    return sorted(budget.items, key=lambda item: (-np.nan_to_num(shares[item.name].value), item.name))


def ignore_list(measured: MeasuredBudget) -> str:
    """Return the layers to leave float, one per line, in the form that ``--ignore @FILE`` takes."""
    shares = measured.budget.shares()
    lines = [f"# {measured.reason}"]
    for item in measured.chosen:
        lines += [f"# {item.name}: {100.0 * shares[item.name].value:.1f} % of the noise", *item.layers]
    return "\n".join(dict.fromkeys(lines)) + "\n"
