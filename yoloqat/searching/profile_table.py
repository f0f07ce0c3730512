"""The latency table that follows from profiles of two TensorRT engines: which layer of the model takes which time."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from yoloqat.engines.reading import EngineReport, Layer
from yoloqat.engines.reading.layer import FLOATS, INT8
from yoloqat.linting.fusion import DEFAULT_GPU, GPUS, HALF, Kind
from yoloqat.linting.fusion import INT8 as INT8_TYPE
from yoloqat.linting.fusion.roofline import roofline_ms
from yoloqat.searching.latency import LatencyTable
from yoloqat.searching.profiles import Profiles, owners_of

PROFILED = "tensorrt profile"
"""Source of a table that was read from profiles."""

ROOFLINE = f"roofline of {DEFAULT_GPU}, at the pace of the profile"
"""Source of what profiles do not tell: least times, times what the layers of the profile take longer than theirs."""

_POINTWISE = re.compile(r"^PWN\(|PointWise", re.IGNORECASE)


@dataclass(frozen=True)
class LayerTimes:
    """What an engine's layers take, told by the layers of the model.

    Attributes:
        ms: Milliseconds of each layer that the profile names.
        converted_ms: Of the conversions between INT8 and float whose size is told.
        converted: Millions of numbers in these.
    """

    ms: Mapping[str, float]
    converted_ms: float
    converted: float

    @classmethod
    def of(cls, report: EngineReport, layers: Mapping[str, str], macs: Mapping[str, int]) -> LayerTimes:
        """Divide the time of an engine among the layers of the model.

        What belongs to no layer (copies, pooling, Q and DQ) is time of the layer that runs next, but for activations that run by
        themselves, which belong to the last one, and for conversions between INT8 and float whose size is told, which are the
        price of borders. What runs after the last layer is left out.

        Args:
            report: The engine.
            layers: Names of nodes in the file, to the layer that each is.
            macs: Multiply-adds of each layer, by which those that run as one share its time.
        """
        found: dict[str, float] = {}
        last: tuple[str, ...] = ()
        before = converted_ms = converted = 0.0
        for layer in report.layers:
            ms, owners = layer.ms or 0.0, owners_of(layer, layers)
            if _converts(layer) and layer.elements:
                converted_ms, converted = converted_ms + ms, converted + layer.elements / 1e6
                continue
            if last and not owners and _POINTWISE.search(f"{layer.name} {layer.type}"):
                _share(found, last, ms, macs)
                continue
            before += ms
            if owners:
                _share(found, owners, before, macs)
                last, before = owners, 0.0
        return cls(found, converted_ms, converted)


def _share(found: dict[str, float], owners: Sequence[str], ms: float, macs: Mapping[str, int]) -> None:
    weights = [max(macs.get(owner, 0), 1) for owner in owners]
    for owner, weight in zip(owners, weights, strict=True):
        found[owner] = found.get(owner, 0.0) + ms * weight / sum(weights)


def _converts(layer: Layer) -> bool:
    """Return whether a layer only converts between INT8 and float."""
    if layer.kind == "compute":
        return False
    sides = [set(types.split("+")) for types in (layer.precision_in, layer.precision_out)]
    quantized = [bool(side & INT8) for side in sides]
    return quantized[0] != quantized[1] and sides[quantized.index(False)] <= FLOATS


def profile_table(
    profiles: Profiles,
    layers: Sequence[str],
    nodes: Mapping[str, str],
    costs: Mapping[str, tuple[int, int]],
    made_of: Mapping[str, Any],
) -> LatencyTable:
    """Return the latency table of two engines' profiles.

    Args:
        profiles: Of both engines, checked.
        layers: Names of the quantized layers.
        nodes: Names of nodes in the file, to the quantized layer that each is.
        costs: Of every layer of the model, float ones too, its multiply-adds and the numbers that it reads and writes.
        made_of: What the table depends on.
    """
    known = {name: name for name in costs if name} | dict(nodes)
    macs = {name: cost[0] for name, cost in costs.items()}
    int8, floating = (LayerTimes.of(report, known, macs) for report in (profiles.int8, profiles.floating))
    int8_ms, _ = _completed(int8, layers, costs, INT8_TYPE, 1)
    float_ms, pace = _completed(floating, layers, costs, HALF, 2)
    converted = int8.converted + floating.converted
    border_ms = (
        (int8.converted_ms + floating.converted_ms) / converted
        if converted
        else pace * _least_ms((0, 1_000_000), INT8_TYPE, 1 + 2)
    )
    return LatencyTable(
        PROFILED,
        profiles.latency_ms,
        profiles.floating.ms or 0.0,
        int8_ms,
        float_ms,
        border_ms,
        made_of,
        None if converted else ROOFLINE,
        [name for name in layers if name not in int8.ms or name not in floating.ms],
    )


def _completed(
    times: LayerTimes, layers: Sequence[str], costs: Mapping[str, tuple[int, int]], precision: str, size: int
) -> tuple[dict[str, float], float]:
    """Return the milliseconds of every layer, and how many times its least time a layer of the profile takes.

    What the profile does not name is estimated at that pace.
    """
    least = {name: _least_ms(cost, precision, size) for name, cost in costs.items()}
    told = [name for name in layers if name in times.ms and name in least]
    expected = sum(least[name] for name in told)
    pace = sum(times.ms[name] for name in told) / expected if expected else 1.0
    return {name: times.ms.get(name, pace * least.get(name, 0.0)) for name in layers}, pace


def _least_ms(cost: tuple[int, int], precision: str, size: int) -> float:
    """Return the least time of a layer, or of a million numbers read in INT8 and written in FP16, in milliseconds."""
    macs, numbers = cost
    return roofline_ms(GPUS[DEFAULT_GPU], kind=Kind.CONVOLUTION, precision=precision, moved=numbers * size, macs=macs)
