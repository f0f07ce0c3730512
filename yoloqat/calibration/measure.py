"""How the values of one tensor lie in the range of its quantizer, and what another range would change: NumPy alone.

All is computed from absolute values. A histogram holds no signs, and needs none: a scale rounds x and -x alike, and the
values beyond an end of the range are on the side that the histogram's own ends tell. Inside a bin the values count as evenly
spread.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yoloqat.calibration.facts import MOST_BINS, MOST_INTEGERS, Among, Channels, CompactHistogram, RangeOption, Usage
from yoloqat.config import MethodSpec, QuantScheme
from yoloqat.config.method import DEFAULT_METHODS, PER_LAYER
from yoloqat.quant.calib import Histogram

Floats = NDArray[np.float64]

METHODS = tuple(method for method in DEFAULT_METHODS if method.kind != PER_LAYER)
"""The methods whose ranges are compared with the present one."""

_PARTS = 8
"""Points per bin of a histogram."""


@dataclass(frozen=True)
class Values:
    """The absolute values of a tensor.

    Attributes:
        sizes: Absolute values, float64, shape (values,).
        shares: What share of the tensor each stands for, float64, shape (values,); they sum to 1.
        low: Smallest value, with its sign.
        high: Largest value, with its sign.
        count: Number of values behind it.
    """

    sizes: Floats
    shares: Floats
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Grid:
    """The real values that a range's integers stand for.

    Attributes:
        scale: Real value of one integer step, one for all values or one for each, float64.
        limit: Absolute value beyond which values are clipped, shaped like ``scale``.
        lowest: The smallest integer, counted from the one that stands for 0.
        highest: The largest integer, counted likewise.
    """

    scale: Floats
    limit: Floats
    lowest: int
    highest: int


def histogram_values(histogram: Histogram) -> Values:
    """Return the values of a histogram, those of a bin evenly spread in it, up to the largest value."""
    edges = histogram.edges.astype(np.float64)
    counts, lower = histogram.counts, edges[:-1]
    upper = np.maximum(np.minimum(edges[1:], histogram.amax), lower)
    inside = (np.arange(_PARTS) + 0.5) / _PARTS
    sizes = lower[:, None] + (upper - lower)[:, None] * inside
    total = max(int(counts.sum()), 1)
    shares = np.repeat(counts / (total * _PARTS), _PARTS)
    return Values(sizes.ravel(), shares, histogram.low, histogram.high, int(counts.sum()))


def symmetric_grid(amax: Floats, scheme: QuantScheme) -> Grid:
    """Return the grid of a symmetric range.

    Args:
        amax: Upper end, float64, any shape; 0 lets every value round to 0.
        scheme: Gives qmin and qmax.
    """
    scale = np.where(amax > 0, amax / scheme.high, 1.0)
    return Grid(scale, amax, scheme.low, scheme.high)


def affine_grid(low: float, high: float, bits: int) -> Grid:
    """Return the grid of an affine range, whose integers represent 0 exactly.

    Args:
        low: Lower end; above 0 it counts as 0.
        high: Upper end; below 0 it counts as 0.
        bits: Bit width.
    """
    low, high, steps = min(low, 0.0), max(high, 0.0), (1 << bits) - 1
    scale = (high - low) / steps if high > low else 1.0
    lowest = int(np.rint(low / scale))
    return Grid(np.array(scale), np.array(max(high, -low)), lowest, lowest + steps)


def usage(values: Values, grid: Grid, ends: tuple[float, float] | None = None) -> Usage:
    """Return how values use the integers of a range.

    Args:
        values: The tensor.
        grid: Of the range.
        ends: The smallest and the largest value in steps, where the scale is not one for all.
    """
    ratio = values.sizes / grid.scale
    last = np.rint(grid.limit / grid.scale)
    integers = np.minimum(np.rint(ratio), last)
    errors = np.abs(values.sizes - integers * grid.scale)
    squared = values.shares * errors**2
    signal, error = float((values.shares * values.sizes**2).sum()), float(squared.sum())
    beyond, zero = values.sizes > grid.limit, integers == 0
    held = np.bincount(integers.astype(np.int64), weights=values.shares, minlength=int(last.max()) + 1)
    per_share = -(-len(held) // MOST_INTEGERS)
    padded = np.concatenate([held, np.zeros(-len(held) % per_share)])
    some = held[held > 0]
    middle, most = _quantiles(ratio, values.shares, (0.5, 0.99))
    low, high = ends if ends is not None else (values.low / float(grid.scale), values.high / float(grid.scale))
    return Usage(
        mean_square=signal,
        error=error,
        absolute_error=float((values.shares * errors).sum()),
        sqnr_db=_decibels(signal, error),
        clipped_share=float(values.shares[beyond].sum()),
        clip_error_share=float(squared[beyond].sum() / error) if error else 0.0,
        zero_share=float(held[0]),
        zero_error_share=float(squared[zero].sum() / error) if error else 0.0,
        one_share=float(held[1]) if len(held) > 1 else 0.0,
        beyond_third_share=float(values.shares[values.sizes > grid.limit / 3].sum()),
        p50_steps=middle,
        p99_steps=most,
        reached=(max(round(low), grid.lowest), min(round(high), grid.highest)),
        integers=(grid.lowest, grid.highest),
        steps=len(held) - 1,
        entropy_bits=float(max(-(some * np.log2(some)).sum(), 0.0)),
        most_entropy_bits=math.log2(len(held)),
        integer_shares=tuple(padded.reshape(-1, per_share).sum(axis=1).tolist()),
        integers_per_share=per_share,
    )


def range_option(name: str, values: Values, grid: Grid, present: Usage) -> RangeOption:
    """Return what a range would make of values.

    Args:
        name: What the range is called.
        values: The tensor.
        grid: Of the range.
        present: Of the same values under the present range.
    """
    integers = np.minimum(np.rint(values.sizes / grid.scale), np.rint(grid.limit / grid.scale))
    errors = np.abs(values.sizes - integers * grid.scale)
    error, absolute = float((values.shares * errors**2).sum()), float((values.shares * errors).sum())
    return RangeOption(
        name=name,
        amax=float(np.max(grid.limit)),
        scale=float(np.max(grid.scale)),
        clipped_share=float(values.shares[values.sizes > grid.limit].sum()),
        sqnr_db=_decibels(present.mean_square, error),
        error_ratio=error / present.error if present.error else None,
        absolute_ratio=absolute / present.absolute_error if present.absolute_error else None,
    )


def method_grid(histogram: Histogram, method: MethodSpec, scheme: QuantScheme, *, affine: bool) -> Grid:
    """Return the grid that a method gives on a histogram, as a quantizer takes it.

    Args:
        histogram: Of the tensor.
        method: The search.
        scheme: Bits and signedness.
        affine: With a zero-point: the observed range, cut to [-amax, amax] of the method.
    """
    one_sided = affine and -histogram.low <= histogram.high / 2
    amax = histogram.compute_amax(method, bits=scheme.bits, unsigned=scheme.unsigned or one_sided)
    if affine:
        return affine_grid(max(histogram.low, -amax), min(histogram.high, amax), scheme.bits)
    return symmetric_grid(np.array(amax, np.float64), scheme)


def other_ranges(
    histogram: Histogram, scheme: QuantScheme, present: Usage, method: MethodSpec
) -> tuple[RangeOption, ...]:
    """Return what each method, and the scheme's counterpart with or without a zero-point, would give.

    Args:
        histogram: Of the tensor.
        scheme: The present one.
        present: Under the present range.
        method: Finds the range of the counterpart.
    """
    values, affine = histogram_values(histogram), not scheme.symmetric
    found = [
        range_option(str(each), values, method_grid(histogram, each, scheme, affine=affine), present)
        for each in METHODS
    ]
    counterpart = method_grid(histogram, method, QuantScheme(scheme.bits), affine=not affine)
    label = f"{'symmetric' if affine else 'affine'}, {method}"
    return (*found, range_option(label, values, counterpart, present))


def compact(values: Values, grid: Grid, *, steps: bool) -> CompactHistogram:
    """Return a histogram of few bins.

    Args:
        values: The tensor.
        grid: Of the range.
        steps: Count in integer steps, of which every value may have its own.
    """
    sizes = values.sizes / grid.scale if steps else values.sizes
    clip = float(np.max(grid.limit / grid.scale if steps else grid.limit))
    top = max(float(sizes.max(initial=0.0)), max(-values.low, values.high) if not steps else 0.0)
    edges = np.linspace(0.0, top if top > 0 else 1.0, MOST_BINS + 1)
    shares, _ = np.histogram(sizes, edges, weights=values.shares)
    unit = "step" if steps else "value"
    return CompactHistogram(unit, tuple(edges.tolist()), tuple(shares.tolist()), clip)


def channel_facts(rows: NDArray[np.float32]) -> Channels:
    """Return how far the output channels of a weight differ.

    Args:
        rows: The weight, shape (channels, values per channel).
    """
    top = np.abs(rows).max(axis=1).astype(np.float64)
    some = top[top > 0]
    median, largest = (float(np.median(some)), float(some.max())) if len(some) else (0.0, 0.0)
    ratio = largest / median if median else None
    return Channels(len(top), int((top == 0).sum()), median, largest, ratio, int(np.argmax(top)))


def among(one: Usage, every: Sequence[Usage]) -> Among:
    """Return where a quantizer stands among all, of which it is one."""
    decibels = [math.inf if each.sqnr_db is None else each.sqnr_db for each in every]
    own = math.inf if one.sqnr_db is None else one.sqnr_db
    middle = float(np.median(decibels))
    return Among(
        count=len(every),
        sqnr_rank=1 + sum(each < own for each in decibels),
        sqnr_median_db=middle if math.isfinite(middle) else None,
        zero_rank=1 + sum(each.zero_share > one.zero_share for each in every),
        zero_median=float(np.median([each.zero_share for each in every])),
    )


def _quantiles(sizes: Floats, shares: Floats, at: Sequence[float]) -> list[float]:
    order = np.argsort(sizes, kind="stable")
    cumulative = np.cumsum(shares[order])
    places = np.searchsorted(cumulative, np.array(at) * cumulative[-1])
    return [float(sizes[order[min(int(place), len(order) - 1)]]) for place in places]


def _decibels(signal: float, error: float) -> float | None:
    return 10.0 * math.log10(signal / error) if signal > 0 and error > 0 else None
