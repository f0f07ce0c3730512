r"""The searches for amax on a histogram of absolute values, vectorised.

All three reproduce what NVIDIA's ``calib.histogram`` computes on the same histogram; the loops over candidates and bins are
replaced by cumulative sums, which makes a search take milliseconds.

- entropy: the KL divergence of Migacz, "8-bit Inference with TensorRT" (GTC 2017), in NVIDIA's variant: a candidate keeps the
  first i bins and adds the counts beyond to the last of them.
- mse: least squared error of fake-quantized bin centres.
- percentile: the edge of the first bin at which the cumulative share reaches the percentile.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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
        bits: Width of the codes.
        unsigned: Whether the codes are unsigned, which doubles the levels for absolute values.
        stride: Distance between candidates, in bins.
        start_bin: First candidate, in bins.
    """
    bins = counts.astype(np.float64)
    if len(bins) > 1:
        bins[0] = bins[1]  # zeros are exact at any scale and would drown everything else
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
    for start in range(0, len(candidates), 512):  # blocks bound the memory to a few MB
        kept = candidates[start : start + 512]
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
        result[start : start + 512] = before + own - cross - clipped
    return np.nan_to_num(result, nan=np.inf)


def amax_mse(
    counts: Counts, edges: Edges, *, bits: int = 8, unsigned: bool = False, stride: int = 1, start_bin: int = 128
) -> float:
    """Return the bin centre that, taken as amax, gives the least squared error of the fake-quantized bin centres.

    Args:
        counts: Histogram of absolute values, shape (bins,).
        edges: Bin edges, shape (bins + 1,).
        bits: Width of the codes.
        unsigned: Whether the codes are unsigned.
        stride: Distance between candidates, in bins.
        start_bin: First candidate, in bins.
    """
    centers = (edges[1:] + edges[:-1]) / np.float32(2)
    candidates = np.arange(min(start_bin, len(centers) - 1), len(centers), stride)
    high = (1 << (bits - 1 + int(unsigned))) - 1
    errors = np.empty(len(candidates))
    weights = counts.astype(np.float64)
    # sums over the centres of one code: error = sum c x^2 - 2 q sum c x + q^2 sum c
    sum_0 = np.concatenate([[0.0], np.cumsum(weights)])
    sum_1 = np.concatenate([[0.0], np.cumsum(weights * centers)])
    sum_2 = float((weights * centers.astype(np.float64) ** 2).sum())
    levels = np.arange(high + 1, dtype=np.float64)
    for start in range(0, len(candidates), 512):
        amax = centers[candidates[start : start + 512]].astype(np.float64)[:, None]
        step = amax / high
        # the first centre that rounds to a code above `level`; clamping sends everything beyond to the last code
        bounds = np.searchsorted(centers, (levels[:-1] + 0.5) * step)
        ends = np.full((len(amax), 1), len(centers))
        bounds = np.concatenate([np.zeros_like(ends), bounds, ends], axis=1)
        value = levels * step
        c_0, c_1 = np.diff(sum_0[bounds], axis=1), np.diff(sum_1[bounds], axis=1)
        errors[start : start + 512] = sum_2 + (value**2 * c_0 - 2.0 * value * c_1).sum(axis=1)
    return float(centers[candidates[int(np.argmin(errors))]])
