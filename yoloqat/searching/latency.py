"""What each layer costs in INT8 and in floating point, and each conversion between the two."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from yoloqat.searching.problem import Border, Choice, Problem
from yoloqat.searching.tied import Flow

ESTIMATED = "multiply-adds"
"""Source of a table that was not measured."""

LEAST = 0.02
"""Share of a layer's time in INT8 that it costs to leave it float at the least; a measured difference below it is none."""

FLOAT_GMACS, INT8_GMACS, GIGABYTES = 40.0, 120.0, 10.0
"""Of a processor that nobody measured: thousand millions of multiply-adds, and of bytes moved, in a second."""


@dataclass(frozen=True)
class LatencyTable:
    """Milliseconds of one forward, as measured on an engine or estimated.

    Attributes:
        source: The engine that was measured, the profiles of one, or :data:`ESTIMATED`.
        latency_ms: Of the model with every layer in INT8.
        float_latency_ms: Of the float model.
        int8_ms: Of each layer in INT8.
        float_ms: Of each layer in floating point.
        border_ms: Of a million numbers that pass from a layer in INT8 to a float one, or the other way.
        made_of: What it depends on, JSON-able; a table of something else is not taken.
        border_source: Where ``border_ms`` is from, where that is another than ``source``.
        estimated_layers: Layers whose time the source does not tell, so that it is estimated.
    """

    source: str
    latency_ms: float
    float_latency_ms: float
    int8_ms: Mapping[str, float]
    float_ms: Mapping[str, float]
    border_ms: float
    made_of: Mapping[str, Any]
    border_source: str | None = None
    estimated_layers: Sequence[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the table as a JSON-able dict."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Any, made_of: Mapping[str, Any]) -> LatencyTable | None:
        """Return the table that :meth:`to_dict` gave; None where it is damaged or of something else.

        Args:
            data: What was read.
            made_of: What it must depend on.
        """
        try:
            found = cls(**data)
            figures = [found.latency_ms, found.float_latency_ms, found.border_ms]
            figures += [*found.int8_ms.values(), *found.float_ms.values()]
            fits = found.made_of == made_of and found.int8_ms.keys() == found.float_ms.keys()
            return found if fits and all(math.isfinite(figure) and figure >= 0.0 for figure in figures) else None
        except (TypeError, AttributeError):
            return None

    def extra_ms(self, layer: str) -> float:
        """Return what a layer costs more in floating point than in INT8, and be it least: :data:`LEAST` of what it takes.

        Layers so small that floating point seems faster stay in INT8 unless their noise is in the way.
        """
        int8 = self.int8_ms.get(layer, 0.0)
        return max(self.float_ms.get(layer, 0.0) - int8, LEAST * int8, 1e-6)

    @property
    def measured(self) -> bool:
        """Whether it was measured on an engine."""
        return self.source != ESTIMATED


def estimated_table(
    costs: Mapping[str, tuple[int, int]], others: tuple[int, int], made_of: Mapping[str, Any]
) -> LatencyTable:
    """Return a table by multiply-adds and bytes moved, where no engine was measured; its milliseconds compare with each other.

    Args:
        costs: Of each layer that can be in INT8, its multiply-adds and the numbers that it reads and writes.
        others: The same of all other layers together.
        made_of: What it depends on.
    """

    def ms(cost: tuple[int, int], gmacs: float, size: int) -> float:
        return cost[0] / gmacs / 1e6 + cost[1] * size / GIGABYTES / 1e6

    int8 = {name: ms(cost, INT8_GMACS, 1) for name, cost in costs.items()}
    floating = {name: ms(cost, FLOAT_GMACS, 4) for name, cost in costs.items()}
    rest = ms(others, FLOAT_GMACS, 4)
    border = 1e6 * (4 + 1) / GIGABYTES / 1e6  # a million numbers read in one precision, written in the other
    return LatencyTable(
        ESTIMATED, sum(int8.values()) + rest, sum(floating.values()) + rest, int8, floating, border, made_of
    )


def measured_table(
    source: str,
    nodes: Mapping[str, Mapping[str, float]],
    latencies: Mapping[str, float],
    mixed: Mapping[str, tuple[Collection[str], float]],
    made_of: Mapping[str, Any],
) -> LatencyTable:
    """Return the table of what was measured on models that differ in their float layers alone.

    Layers take what the profile says, scaled so that all of them together take the difference of the two models' latencies.
    What a mixed model takes longer than its layers explain is the price of its borders.

    Args:
        source: The engine.
        nodes: Milliseconds of each layer in the models ``"int8"`` and ``"float"``.
        latencies: Milliseconds of one forward of these, and of each mixed model, by name.
        mixed: Of each mixed model the layers that are float, and how many more millions of
            numbers pass borders than in INT8.
        made_of: What it depends on.
    """
    int8, floating = nodes["int8"], nodes["float"]
    profiled = sum(floating.values()) - sum(int8.values())
    won = latencies["float"] - latencies["int8"]
    scale = won / profiled if profiled > 0.0 and won > 0.0 else 1.0
    excess, crossed = [], []
    for name, (layers, millions) in mixed.items():
        explained = latencies["int8"] + scale * sum(floating[layer] - int8[layer] for layer in layers)
        excess.append(latencies[name] - explained)
        crossed.append(millions)
    numbers = np.array(crossed)
    slope = float(numbers @ np.array(excess) / (numbers @ numbers)) if numbers.any() else 0.0
    return LatencyTable(
        source,
        latencies["int8"],
        latencies["float"],
        {name: scale * value for name, value in int8.items()},
        {name: scale * value for name, value in floating.items()},
        max(slope, 0.0),
        made_of,
    )


def halves(groups: Sequence[Sequence[str]], passing: Sequence[Flow]) -> tuple[list[int], list[int]]:
    """Divide groups of layers in two, so that many numbers pass between the halves: models with nearly every border.

    Args:
        groups: Layers that are float together.
        passing: Tensors between layers.
    """
    group_of = {name: index for index, group in enumerate(groups) for name in group}
    between: dict[int, dict[int, int]] = {index: {} for index in range(len(groups))}
    for flow in passing:
        first, second = group_of.get(flow.writer), group_of.get(flow.reader)
        if first is None or second is None or first == second:
            continue
        for one, other in ((first, second), (second, first)):
            between[one][other] = between[one].get(other, 0) + flow.elements
    side: dict[int, int] = {}
    for index, others in between.items():
        pull = sum((1 if side[other] else -1) * count for other, count in others.items() if other in side)
        side[index] = 0 if pull > 0 else 1
    chosen = [index for index, value in side.items() if value]
    return chosen, [index for index in side if index not in chosen]


def borders_of(groups: Sequence[Sequence[str]], passing: Sequence[Flow], border_ms: float) -> tuple[Border, ...]:
    """Return the borders of a problem: each tensor once for each group that reads it.

    Args:
        groups: Layers that are float together.
        passing: Tensors between layers.
        border_ms: Milliseconds of a million numbers that pass a border.
    """
    group_of = {name: index for index, group in enumerate(groups) for name in group}
    found: dict[tuple[str, int | None], Border] = {}
    for flow in passing:
        first, second = group_of.get(flow.writer), group_of.get(flow.reader)
        if first != second:
            found[flow.writer, second] = Border(first, second, border_ms * flow.elements / 1e6)
    return tuple(found.values())


def make_problem(
    groups: Sequence[Sequence[str]],
    shares: Mapping[str, float],
    d: float,
    table: LatencyTable,
    passing: Sequence[Flow],
) -> Problem:
    """Return the problem of which groups to leave float.

    Args:
        groups: Layers that are float together.
        shares: Each layer's share of the sum of the squares of all noises.
        d: The noise with every layer in INT8.
        table: What layers and borders cost.
        passing: Tensors between layers.
    """
    choices = tuple(
        Choice(
            tuple(group),
            sum(shares.get(name, 0.0) for name in group),
            sum(table.extra_ms(name) for name in group),
        )
        for group in groups
    )
    return Problem(choices, borders_of(groups, passing, table.border_ms), d, table.latency_ms)
