"""What leaving layers in floating point wins: the noise that remains, and how many multiply-adds stay in INT8."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from yoloqat.evaluation.fidelity import Mean
from yoloqat.quant.graph.cost import LayerCost
from yoloqat.sensitivity.items import Item

PAYS = 0.1
"""The knee lies where the noise has fallen by at least this much more of the whole than the multiply-adds in INT8 have."""

ENOUGH = 0.9
"""The knee is the least number of float items that reaches this share of the best score: the top of the curve is flat."""

MEASURED = (0, 1, 2, 3, 5, 8, 12, 20, 32)
"""Numbers of float items whose noise is measured, not only predicted."""


@dataclass(frozen=True)
class CurvePoint:
    """The model with its first items in floating point.

    Attributes:
        float_layers: How many layers are float.
        items: How many items are.
        name: The item that this point adds; None at the start.
        d_predicted: The noise that the budget predicts from what each item makes alone.
        d_estimated: The same, corrected by what was measured at this number of items or between the nearest.
        int8_mac_share: Share of the multiply-adds of all layers that stay in INT8.
        d: The noise measured, where it was, on other images than those that ranked, where there are others.
    """

    float_layers: int
    items: int
    name: str | None
    d_predicted: float
    d_estimated: float
    int8_mac_share: float
    d: Mean | None = None


def mac_share(costs: Sequence[LayerCost], quantized: Collection[str]) -> float:
    """Return which share of the multiply-adds of a graph's layers is done in the layers that are named."""
    total = sum(cost.macs for cost in costs)
    return sum(cost.macs for cost in costs if cost.name in quantized) / total if total else 0.0


def knee(points: Sequence[CurvePoint]) -> int:
    """Return how many items are worth floating: where the curve is about farthest from a straight line; 0 where nothing pays.

    At each point the gain is the share of the noise that is gone, the price the share of the multiply-adds that left INT8
    (as Satopaa et al., Finding a "Kneedle" in a Haystack, 2011, with both axes from the start to nothing).

    Args:
        points: By rising number of items, the first with none.
    """
    start = points[0]
    if not start.d_estimated > 0.0 or start.int8_mac_share <= 0.0:  # NaN where the float model sees nothing
        return 0
    scores = [
        (1.0 - point.d_estimated / start.d_estimated) - (1.0 - point.int8_mac_share / start.int8_mac_share)
        for point in points
    ]
    best = max(scores)
    if best < PAYS:
        return 0
    return next(point.items for point, score in zip(points, scores, strict=True) if score >= ENOUGH * best)


def corrected(predicted: Sequence[float], measured: Mapping[int, float]) -> list[float]:
    """Return predictions scaled by the ratio at each measured place, straight between two; what was measured stays as it is.

    Args:
        predicted: By rising number of float items.
        measured: Some of them as measured, by their place.
    """
    places = [place for place in sorted(measured) if predicted[place] > 0.0]
    ratios = [measured[place] / predicted[place] for place in places]
    scale = np.interp(np.arange(len(predicted)), places, ratios) if places else np.ones(len(predicted))
    found = [float(value) for value in np.asarray(predicted) * scale]
    return [measured.get(place, value) for place, value in enumerate(found)]


def within(points: Sequence[CurvePoint], drops: Mapping[int, float | None], limit: float) -> int | None:
    """Return the least number of float items whose expected drop is within a limit; None where no number is enough.

    Args:
        points: By rising number of items.
        drops: The expected drop by number of items; None where nothing is known.
        limit: The largest drop.
    """
    for point in points:
        drop = drops[point.items]
        if drop is not None and drop <= limit:
            return point.items
    return None


def floatable(items: Sequence[Item]) -> list[Item]:
    """Return the items that an ignore list can name: those that hold a layer."""
    return [item for item in items if item.layers]
