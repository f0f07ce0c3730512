"""Why a quantizer is noisy: the facts of its range, from collected statistics and from the weights themselves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from yoloqat.calibration.explain_tables import facts_tables
from yoloqat.calibration.facts import CompactHistogram, QuantizerFacts, SharedTensor, Usage
from yoloqat.calibration.measure import (
    Grid,
    Values,
    affine_grid,
    among,
    channel_facts,
    compact,
    histogram_values,
    method_grid,
    other_ranges,
    range_option,
    symmetric_grid,
    usage,
)
from yoloqat.calibration.statistics import Statistics
from yoloqat.calibration.verdict import verdict
from yoloqat.config import CalibrationConfig, MethodSpec, QuantScheme, from_dict
from yoloqat.config.method import PER_LAYER
from yoloqat.detectors import Detector
from yoloqat.errors import CalibrationError, ConfigError, ModelError
from yoloqat.quant import TensorQuantizer, activation_quantizers, quantized_layers
from yoloqat.quant.calib import amax_mse_channels
from yoloqat.quant.graph.plan import ScaleGroup
from yoloqat.quant.patterns import nearest_names, with_ancestors
from yoloqat.quant.sharing import locate_quantizer
from yoloqat.results import Result

WEIGHT = "_weight_quantizer"
"""Ends the name of every quantizer of a weight."""
_RESIDUAL = " (residual)"
"""How `sensitivity` marks an input of an Add in the name of its block."""
DEFAULT = CalibrationConfig().method
"""Finds the ranges of other schemes where the checkpoint tells no method."""
_NAMED = 4
"""Names that a message lists."""


class Explanation(Result):
    """The facts of one or more quantizers: ``results`` by quantizer location, with ``verdict`` in each, and their tables."""


def explain(detector: Detector, statistics: Statistics | None, name: str) -> Explanation:
    """Explain the noise of a quantizer, or of those of a layer.

    Args:
        detector: A calibrated detector.
        statistics: What was collected on it; None serves where a weight alone is named.
        name: A quantizer location, a layer, which stands for its input and its weight, or a block of one layer.

    Returns:
        The facts of each quantizer, in the order of its layer.

    Raises:
        ModelError: The detector is float.
        ConfigError: The name is that of no quantizer or layer, or of several layers.
        CalibrationError: A quantizer has no range, or is not among the statistics.
    """
    found = [
        _weight(detector, location) if location.endswith(WEIGHT) else _activation(detector, statistics, location)
        for location in quantizers_named(detector, name)
    ]
    results = {facts.name: facts.to_dict() | {"verdict": verdict(facts)} for facts in found}
    return Explanation(results, tuple(table for facts in found for table in facts_tables(facts, verdict(facts))))


def histograms(detector: Detector, statistics: Statistics | None) -> list[dict[str, Any]]:
    """Return a histogram of few bins of every quantizer that has a range, with the end of that range.

    Args:
        detector: A calibrated detector.
        statistics: What was collected on it; None gives the weights alone.

    Returns:
        JSON-able: ``quantizers``, the locations that share one; ``unit``, ``"value"`` or ``"step"``; ``shares`` of the absolute
        values in evenly spaced bins from 0 to ``end``; and ``clip``, where the range ends.
    """
    found = []
    groups = () if detector.quantization is None else detector.quantization.placement.groups
    for group in groups:
        _, _, quantizer = locate_quantizer(detector.module, group.owner)
        if statistics is not None and group.owner in statistics.histograms and quantizer.amax is not None:
            values = histogram_values(statistics.histograms[group.owner])
            own = compact(values, _grid(quantizer, group.owner), steps=False)
            found.append(_compacted(list(dict.fromkeys((group.owner, *group.locations))), own))
    for name, layer in quantized_layers(detector.module):
        if layer._weight_quantizer.amax is not None:
            location = f"{name}.{WEIGHT}"
            values, grid, _ = _weight_usage(location, layer.weight, layer._weight_quantizer)
            steps = layer._weight_quantizer.scheme.axis is not None
            found.append(_compacted([location], compact(values, grid, steps=steps)))
    return found


def _compacted(quantizers: list[str], histogram: CompactHistogram) -> dict[str, Any]:
    return {
        "quantizers": quantizers,
        "unit": histogram.unit,
        "end": histogram.edges[-1],
        "shares": list(histogram.shares),
        "clip": histogram.clip,
    }


def quantizers_named(detector: Detector, name: str) -> tuple[str, ...]:
    """Return the quantizer locations that a name stands for.

    Args:
        detector: A quantized detector.
        name: As for :func:`explain`.

    Raises:
        ModelError: The detector is float.
        ConfigError: The name is that of no quantizer or layer, or of several layers.
    """
    if detector.quantization is None:
        raise ModelError(
            f"'{detector.source.path}' is float and has no quantizer '{name}'",
            expected="a calibrated checkpoint",
            hint="calibrate it first",
        )
    locations = list(dict.fromkeys(detector.quantization.placement.locations))
    locations += [f"{layer}.{WEIGHT}" for layer, _ in quantized_layers(detector.module)]
    if name in locations:
        return (name,)
    named = name.removesuffix(_RESIDUAL)
    held: dict[str, list[str]] = {}
    for location in locations:
        held.setdefault(location.rpartition(".")[0], []).append(location)
    inside = [holder for holder in held if holder.startswith(f"{named}.")]
    if named in held:
        return tuple(held[named])
    if len(inside) == 1:
        return tuple(held[inside[0]])
    if inside:
        more = f" and {len(inside) - _NAMED} more" if len(inside) > _NAMED else ""
        raise ConfigError(
            f"quantizer '{name}' is not one: {len(inside)} layers and blocks in it have quantizers",
            expected="the name of a quantizer or of a quantized layer",
            hint=f"name one of {', '.join(inside[:_NAMED])}{more}",
        )
    raise ConfigError(
        f"quantizer '{name}' is not in the model",
        expected="the name of a quantizer or of a quantized layer",
        hint=nearest_names(name, {*locations, *(part for holder in held for part in with_ancestors(holder))}),
    )


def _grid(quantizer: TensorQuantizer, location: str) -> Grid:
    if quantizer.amax is None:
        raise CalibrationError(
            f"quantizer '{location}' has no amax", expected="a calibrated model", hint="calibrate it first"
        )
    amax = quantizer.amax.detach().cpu().double().numpy()
    if quantizer.low is None:
        return symmetric_grid(amax, quantizer.scheme)
    return affine_grid(float(quantizer.low), float(amax), quantizer.scheme.bits)


def _activation(detector: Detector, statistics: Statistics | None, location: str) -> QuantizerFacts:
    group = _group(detector, location)
    if statistics is None or group.owner not in statistics.histograms:
        images = 0 if statistics is None else statistics.images
        raise CalibrationError(
            f"quantizer '{location}' is not among the statistics of {images} images",
            expected="statistics of every quantizer",
            hint="calibrate again on images that reach its layer",
        )
    histogram = statistics.histograms[group.owner]
    _, _, quantizer = locate_quantizer(detector.module, location)
    scheme, grid, values = quantizer.scheme, _grid(quantizer, location), histogram_values(histogram)
    used = usage(values, grid)
    method = _method(detector, group.owner)
    expected = method_grid(histogram, method or DEFAULT, scheme, affine=not scheme.symmetric)
    known = method is not None and bool(np.isclose(expected.limit, grid.limit, rtol=1e-5))
    return QuantizerFacts(
        name=location,
        kind="activation",
        bits=scheme.bits,
        symmetric=scheme.symmetric,
        per_channel=False,
        method=str(method) if known else None,
        count=values.count,
        low=histogram.low,
        high=histogram.high,
        amax=float(grid.limit),
        scale=float(grid.scale),
        usage=used,
        options=other_ranges(histogram, scheme, used, method or DEFAULT),
        histogram=compact(values, grid, steps=False),
        shared=_shared(statistics, group, grid, scheme, method or DEFAULT),
        tensor=next(tensor.name for tensor in group.tensors if location in tensor.locations),
        shared_count=len(group.tensors),
        among=among(used, [*_usages(detector, statistics)]),
    )


def _usages(detector: Detector, statistics: Statistics) -> Iterator[Usage]:
    """Yield the usage of every quantizer of activations that has a range and statistics."""
    for name, quantizer in activation_quantizers(detector.module):
        if name in statistics.histograms and quantizer.amax is not None:
            yield usage(histogram_values(statistics.histograms[name]), _grid(quantizer, name))


def _group(detector: Detector, location: str) -> ScaleGroup:
    assert detector.quantization is not None  # noqa: S101 - quantizers_named has checked it
    return next(group for group in detector.quantization.placement.groups if location in group.locations)


def _method(detector: Detector, owner: str) -> MethodSpec | None:
    """Return the method that the checkpoint tells for a quantizer, or None."""
    calibration: dict[str, Any] = {} if detector.quantization is None else detector.quantization.calibration
    if PER_LAYER in calibration:
        chosen = calibration[PER_LAYER].get(owner)
        return MethodSpec.parse(chosen) if chosen else None
    return from_dict(MethodSpec, calibration["method"]) if "method" in calibration else None


def _shared(
    statistics: Statistics, group: ScaleGroup, grid: Grid, scheme: QuantScheme, method: MethodSpec
) -> tuple[SharedTensor, ...]:
    found = []
    for name, histogram in statistics.tensors.get(group.owner, {}).items():
        values = histogram_values(histogram)
        now = usage(values, grid)
        own = method_grid(histogram, method, scheme, affine=not scheme.symmetric)
        alone = range_option(f"own, {method}", values, own, now)
        found.append(SharedTensor(name, histogram.low, histogram.high, now.sqnr_db, alone))
    return tuple(found)


def _weight(detector: Detector, location: str) -> QuantizerFacts:
    layers = {f"{name}.{WEIGHT}": layer for name, layer in quantized_layers(detector.module)}
    own = weight_facts(location, layers[location].weight, layers[location]._weight_quantizer)
    every = [
        _weight_usage(name, layer.weight, layer._weight_quantizer)[2]
        for name, layer in layers.items()
        if layer._weight_quantizer.amax is not None
    ]
    return replace(own, among=among(own.usage, every))


def _rows(weight: Tensor, quantizer: TensorQuantizer) -> Tensor:
    """Return a weight as float32 rows, one for each output channel."""
    return weight.detach().float().cpu().movedim(quantizer.scheme.axis or 0, 0).flatten(1)


def _row_grid(ends: NDArray[np.float64], rows: Tensor, scheme: QuantScheme) -> Grid:
    """Return the grid of every weight, from one end for all or one for each row."""
    return symmetric_grid(np.broadcast_to(ends.reshape(-1, 1), tuple(rows.shape)).ravel(), scheme)


def _weight_usage(location: str, weight: Tensor, quantizer: TensorQuantizer) -> tuple[Values, Grid, Usage]:
    rows = _rows(weight, quantizer)
    signed = rows.double().numpy().ravel()
    shares = np.full(signed.size, 1 / signed.size)
    values = Values(np.abs(signed), shares, float(signed.min()), float(signed.max()), signed.size)
    grid = _row_grid(_grid(quantizer, location).limit, rows, quantizer.scheme)
    in_steps = signed / grid.scale
    return values, grid, usage(values, grid, (float(in_steps.min()), float(in_steps.max())))


def weight_facts(location: str, weight: Tensor, quantizer: TensorQuantizer) -> QuantizerFacts:
    """Return the facts of a weight.

    Args:
        location: Of its quantizer.
        weight: Float, any shape.
        quantizer: With a range; its axis is that of the output channels, and where it has none axis 0 counts as that.

    Raises:
        CalibrationError: The quantizer has no range.
    """
    scheme, rows = quantizer.scheme, _rows(weight, quantizer)
    values, grid, used = _weight_usage(location, weight, quantizer)
    largest = rows.abs().amax(dim=1).double().numpy()
    each = {"max": largest, "mse": amax_mse_channels(rows, scheme).double().numpy()}
    whole = {"max": largest.max(keepdims=True), "mse": amax_mse_channels(rows.reshape(1, -1), scheme).double().numpy()}
    present, other = (each, whole) if scheme.axis is not None else (whole, each)
    word = "one scale" if scheme.axis is not None else "per channel"
    options = [
        range_option(label, values, _row_grid(ends, rows, scheme), used)
        for label, ends in (*present.items(), *((f"{word}, {method}", ends) for method, ends in other.items()))
    ]
    amax = _grid(quantizer, location).limit.ravel()
    method = next((name for name, ends in present.items() if np.allclose(ends, amax, rtol=1e-5)), None)
    return QuantizerFacts(
        name=location,
        kind="weight",
        bits=scheme.bits,
        symmetric=True,
        per_channel=scheme.axis is not None,
        method=method,
        count=values.count,
        low=values.low,
        high=values.high,
        amax=float(grid.limit.max()),
        scale=float(grid.scale[grid.limit.argmax()]),
        usage=used,
        options=tuple(options),
        histogram=compact(values, grid, steps=scheme.axis is not None),
        channels=channel_facts(rows.numpy()),
    )
