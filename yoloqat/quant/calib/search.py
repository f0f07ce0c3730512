r"""The searches for amax on a histogram of absolute values, vectorised.

All three reproduce what NVIDIA's ``calib.histogram`` computes on the same histogram; the loops over candidates and bins are
replaced by cumulative sums, which makes a search take milliseconds.

- entropy: the KL divergence of Migacz, "8-bit Inference with TensorRT" (GTC 2017), in NVIDIA's variant: a candidate keeps the
  first i bins and adds the counts beyond to the last of them. Its result depends on the number of bins: a small candidate has
  few bins per level, so that quantizing seems to cost nothing. `amax_entropy_even` looks at all candidates at one resolution.
- mse: least squared error of fake-quantized bin centres.
- percentile: the edge of the first bin at which the cumulative share reaches the percentile.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1 << 16
"""Candidates times levels per block; bounds the memory to a few MB at any bit width."""

_CACHED = 1 << 14
"""Candidates times places per block where many passes read small arrays, which should stay in the cache."""

_ROUNDING = 1e-12
"""Divergences that differ by less, in nats, count as equal: the difference may be rounding."""

Counts = NDArray[np.int64]
Edges = NDArray[np.float32]


def amax_percentile(counts: Counts, edges: Edges, *, percentile: float) -> float:
    """Return the lower edge of the bin in which the cumulative share reaches ``percentile``.

    Args:
        counts: Histogram of absolute values, shape (bins,).
        edges: Bin edges, shape (bins + 1,).
        percentile: In percent, above 0 and at most 100.
    """
    cumulative = np.cumsum(counts / counts.sum())
    index = int(np.searchsorted(cumulative, percentile / 100.0))
    return float(edges[min(index, len(edges) - 1)])


def amax_entropy(
    counts: Counts, edges: Edges, *, bits: int = 8, unsigned: bool = False, stride: int = 1, start_bin: int = 128
) -> float:
    """Return the edge that gives the least KL divergence between the histogram and its quantized form.

    Args:
        counts: Histogram of absolute values, shape (bins,). It is not changed.
        edges: Bin edges, shape (bins + 1,).
        bits: Bit width.
        unsigned: True for unsigned integers, which doubles the levels for absolute values.
        stride: Distance between candidates, in bins.
        start_bin: First candidate, in bins.
    """
    bins = counts.astype(np.float64)
    if len(bins) > 1:
        bins[0] = bins[1]  # zeros are exact at any scale and would dominate the sum
    candidates = np.arange(min(start_bin, len(bins)), len(bins) + 1, stride)
    divergence = _entropy_divergences(bins, candidates, levels=1 << (bits - 1 + int(unsigned)))
    last_best = len(divergence) - 1 - int(np.argmin(divergence[::-1]))  # ties go to the largest range
    return float(edges[candidates[last_best]])


def _entropy_divergences(bins: NDArray[np.float64], candidates: NDArray[np.int64], levels: int) -> NDArray[np.float64]:
    """Return KL(reference || quantized) for each number of kept bins in ``candidates``.

    With C and K the sum and the number of non-empty bins of a level, every non-empty bin of it is quantized to C / K, so
    the sum over bins of p log q needs only cumulative sums at the level boundaries.
    """
    total = bins.sum()
    sums = np.concatenate([[0.0], np.cumsum(bins)])
    filled = np.concatenate([[0], np.cumsum(bins > 0)])
    with np.errstate(divide="ignore", invalid="ignore"):
        p_log_p = np.where(bins > 0, bins / total * np.log(bins / total), 0.0)
    p_log_p = np.concatenate([[0.0], np.cumsum(p_log_p)])
    result = np.empty(len(candidates))
    block = max(_BLOCK // levels, 1)
    for start in range(0, len(candidates), block):
        kept = candidates[start : start + block]
        # bin b belongs to the last level whose lower boundary k * i / levels is at most b
        bounds = np.ceil(np.arange(levels + 1) * (kept[:, None] / levels)).astype(np.int64)
        bounds[:, -1] = kept
        level_sum = np.diff(sums[bounds], axis=1)
        level_filled = np.diff(filled[bounds], axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            level_log = np.log(level_sum / level_filled / sums[kept][:, None])
            cross = np.where(level_sum > 0, level_sum / total * level_log, 0.0).sum(axis=1)
            last, tail = bins[kept - 1], total - sums[kept]
            # the last kept bin also holds everything beyond; if it was empty, its quantized value is 0: infinite
            last_level = (bounds[:, :-1] <= (kept - 1)[:, None]).sum(axis=1) - 1
            last_log = np.where(last > 0, np.take_along_axis(level_log, last_level[:, None], axis=1)[:, 0], -np.inf)
            clipped = np.where(tail > 0, tail / total * last_log, 0.0)
            with_tail = (last + tail) / total
            own = np.where(with_tail > 0, with_tail * np.log(with_tail), 0.0)
        before = p_log_p[kept - 1]
        result[start : start + block] = before + own - cross - clipped
    return np.nan_to_num(result, nan=np.inf)


BINS_PER_LEVEL = 4
"""Bins per quantization level at which `amax_entropy_even` looks at every candidate."""


CLIPPED_SHARE = 0.01
"""Largest share of values that `amax_entropy_even` clips. The divergence alone may clip half of a spiky distribution into its
highest spike: the grey border of letterboxed images is such a spike in a detector's input."""


def amax_entropy_even(
    counts: Counts,
    edges: Edges,
    *,
    bits: int = 8,
    unsigned: bool = False,
    candidates: int = 128,
    clipped: float = CLIPPED_SHARE,
) -> float:
    """Return the amax of least KL divergence, each candidate looked at with the same number of bins per level.

    The histogram below a candidate is redistributed over :data:`BINS_PER_LEVEL` bins per level, by interpolation of its
    cumulative counts; values beyond count in the last bin. So candidates differ in what they clip and what they blur, not
    in how finely they are looked at, and the result does not depend on the number of bins of the histogram.

    Args:
        counts: Histogram of absolute values, shape (bins,). It is not changed.
        edges: Bin edges, shape (bins + 1,), evenly spaced from 0.
        bits: Bit width.
        unsigned: True for unsigned integers, which doubles the levels for absolute values.
        candidates: Number of ranges tried, evenly spaced up to the last edge.
        clipped: Largest share of values that a candidate may clip.
    """
    bins = counts.astype(np.float64)
    if len(bins) > 1:
        bins[0] = bins[1]  # zeros are exact at any scale and would dominate the sum
    cumulative = np.concatenate([[0.0], np.cumsum(bins)])
    levels = 1 << (bits - 1 + int(unsigned))
    resolution = levels * BINS_PER_LEVEL
    # below `resolution` bins of the histogram there is nothing to interpolate, and nothing to choose from
    if cumulative[-1] == 0.0 or resolution >= len(bins):
        return float(edges[-1])
    allowed = int(np.searchsorted(np.cumsum(counts), (1.0 - clipped) * counts.sum())) + 1
    kept = np.linspace(min(max(resolution, allowed), len(bins)), len(bins), candidates)
    divergence = np.empty(candidates)
    block = max(_CACHED // resolution, 1)
    for start in range(0, candidates, block):
        part = slice(start, start + block)
        divergence[part] = _even_divergences(bins, cumulative, kept[part], levels)
    last_best = int(np.flatnonzero(divergence <= divergence.min() + _ROUNDING)[-1])  # ties go to the largest range
    return float(kept[last_best] * float(edges[1]))


def _even_divergences(
    bins: NDArray[np.float64], cumulative: NDArray[np.float64], kept: NDArray[np.float64], levels: int
) -> NDArray[np.float64]:
    """Return KL(reference || quantized) for each number of kept bins, whole or not, at :data:`BINS_PER_LEVEL`."""
    resolution, total = levels * BINS_PER_LEVEL, cumulative[-1]
    places = kept[:, None] * (np.arange(resolution + 1) / resolution)
    below = np.minimum(places.astype(np.int64), len(bins) - 1)
    until = cumulative[below] + bins[below] * (places - below)
    fine, level_sum = np.diff(until, axis=1), np.diff(until[:, ::BINS_PER_LEVEL], axis=1)
    filled = (fine > 0).astype(np.int8)
    level_filled = sum(filled[:, index::BINS_PER_LEVEL] for index in range(BINS_PER_LEVEL))
    inside = until[:, -1]
    tail = np.maximum(total - inside, 0.0)
    unbounded = (tail > 0) & (fine[:, -1] <= 0)  # what is clipped lands where the quantized form has nothing
    fine[:, -1] += tail
    with np.errstate(divide="ignore", invalid="ignore"):
        log_level = np.log(level_sum / level_filled)
        own = np.einsum("ij,ij->i", fine, np.log(np.where(fine > 0, fine, 1.0)))
        level_sum[:, -1] += tail
        cross = np.where(level_filled > 0, level_sum * log_level, 0.0).sum(axis=1)
        divergence = (own - cross) / total + np.log(inside / total)
    return np.where(unbounded, np.inf, np.nan_to_num(divergence, nan=np.inf))


def coarse_to_fine(cost: Callable[[NDArray[np.int64]], NDArray[np.float64]], candidates: int, step: int) -> int:
    """Return the index of least cost among every ``step``-th candidate and the neighbours of the best of these.

    For costs with one broad minimum, such as the squared error; the divergence of an entropy search has many.

    Args:
        cost: Of the candidates at given indices, any shape (n,).
        candidates: Their number.
        step: Distance between those that are tried at first.
    """
    coarse = np.arange((candidates - 1) % step, candidates, step)  # the last one, the whole range, is among them
    middle = int(coarse[np.argmin(cost(coarse))])
    fine = np.arange(max(middle - step + 1, 0), min(middle + step, candidates))
    return int(fine[np.argmin(cost(fine))])


def amax_mse(
    counts: Counts,
    edges: Edges,
    *,
    bits: int = 8,
    unsigned: bool = False,
    stride: int = 1,
    start_bin: int = 128,
    even: bool = False,
    coarse: int = 1,
) -> float:
    """Return the bin centre that, taken as amax, gives the least squared error of the fake-quantized bin centres.

    Args:
        counts: Histogram of absolute values, shape (bins,).
        edges: Bin edges, shape (bins + 1,).
        bits: Bit width.
        unsigned: True for unsigned integers.
        stride: Distance between candidates, in bins.
        start_bin: First candidate, in bins.
        even: The edges are multiples of one width to the last bit, so that bin indices can be computed without a search.
        coarse: Try every k-th candidate, then the neighbours of the best; 1 tries all, as NVIDIA's search does.
    """
    centers = (edges[1:] + edges[:-1]) / np.float32(2)
    candidates = np.arange(min(start_bin, len(centers) - 1), len(centers), stride)
    high = (1 << (bits - 1 + int(unsigned))) - 1
    weights = counts.astype(np.float64)
    # sums over the centres of one integer: error = sum c x^2 - 2 q sum c x + q^2 sum c
    sum_0 = np.concatenate([[0.0], np.cumsum(weights)])
    sum_1 = np.concatenate([[0.0], np.cumsum(weights * centers)])
    sum_2 = float((weights * centers.astype(np.float64) ** 2).sum())
    levels = np.arange(high + 1, dtype=np.float64)
    block = max((_CACHED if even else _BLOCK) // high, 1)

    def errors(chosen: NDArray[np.int64]) -> NDArray[np.float64]:
        found = np.empty(len(chosen))
        for start in range(0, len(chosen), block):
            amax = centers[candidates[chosen[start : start + block]]].astype(np.float64)[:, None]
            step = amax / high
            # the first centre that rounds to an integer above `level`; clamping sends all larger ones to qmax
            limits = (levels[:-1] + 0.5) * step
            if even:
                bounds = np.minimum(np.ceil(limits / float(edges[1]) - 0.5).astype(np.int64), len(centers))
            else:
                bounds = np.searchsorted(centers, limits)
            ends = np.full((len(amax), 1), len(centers))
            bounds = np.concatenate([np.zeros_like(ends), bounds, ends], axis=1)
            value = levels * step
            c_0, c_1 = np.diff(sum_0[bounds], axis=1), np.diff(sum_1[bounds], axis=1)
            found[start : start + block] = sum_2 + (value**2 * c_0 - 2.0 * value * c_1).sum(axis=1)
        return found

    best = coarse_to_fine(errors, len(candidates), coarse)
    return float(centers[candidates[best]])
