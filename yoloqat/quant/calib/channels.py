"""Searches for amax of many channels at once: on the values themselves, and on a histogram of each channel."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from yoloqat.config import QuantScheme
from yoloqat.quant.functional import fake_quant

_BLOCK = 1 << 22
"""Values per block; bounds the memory to a few dozen MB."""

CANDIDATES = 100
LEAST_SHARE = 0.3
"""`amax_mse_channels` tries CANDIDATES ranges, evenly spaced from LEAST_SHARE of the largest value to the whole of it."""


def amax_mse_channels(values: Tensor, scheme: QuantScheme) -> Tensor:
    """Return for each channel the amax of least squared error of its fake-quantized values.

    Args:
        values: Float tensor, shape (channels, values per channel).
        scheme: Bit width, qmin and qmax; its axis has no effect.

    Returns:
        Float32, shape (channels,), from :data:`LEAST_SHARE` of the channel's largest absolute value to that value itself,
        which is taken where errors are equal; 0 for a channel of zeros.
    """
    values = values.detach().float()
    top = values.abs().amax(dim=1)
    shares = torch.linspace(1.0, LEAST_SHARE, CANDIDATES, device=values.device)
    errors = []
    block = max(1, _BLOCK // values.numel())
    for part in torch.split(shares, block):
        amax = (top[None, :] * part[:, None])[:, :, None]  # (candidates, channels, 1)
        difference = fake_quant(values[None], amax, scheme) - values
        errors.append(difference.square_().sum(dim=2, dtype=torch.float64))
    return top * shares[torch.cat(errors).argmin(dim=0)]


def channel_histograms(values: NDArray[np.float32], bins: int) -> NDArray[np.int64]:
    """Return a histogram of every row from 0 to the row's own largest value, as ``numpy.histogram`` gives it.

    Args:
        values: Absolute values, shape (channels, values per channel); every row has a value above 0.
        bins: Bins of each histogram.

    Returns:
        Shape (channels, bins).
    """
    top = values.max(axis=1, keepdims=True).astype(np.float64)
    edges = _edges(top, bins)
    index = np.minimum((values / top * bins).astype(np.int64), bins - 1)
    # the product may be off by one unit in the last place: what counts is on which side of the edge a value lies
    index -= values < np.take_along_axis(edges, index, axis=1)
    index += (values >= np.take_along_axis(edges, index + 1, axis=1)) & (index < bins - 1)
    rows = np.arange(len(values))[:, None] * bins
    return np.bincount((index + rows).ravel(), minlength=len(values) * bins).reshape(len(values), bins)


def _edges(top: NDArray[np.float64], bins: int) -> NDArray[np.float32]:
    # numpy.histogram rounds the edges to the dtype of the values before it compares
    return np.linspace(0.0, top[:, 0], bins + 1, axis=1).astype(np.float32)


def amax_percentile_rows(values: NDArray[np.float32], bins: int, *, percentile: float) -> NDArray[np.float32]:
    """Return for each row what :func:`~yoloqat.quant.calib.amax_percentile` gives on its histogram.

    Args:
        values: Absolute values, shape (channels, values per channel); every row has a value above 0.
        bins: Bins of each histogram.
        percentile: In percent, above 0 and at most 100.
    """
    counts = channel_histograms(values, bins)
    cumulative = np.cumsum(counts / counts.sum(axis=1, keepdims=True), axis=1)
    index = np.minimum((cumulative < percentile / 100.0).sum(axis=1), bins)
    edges = _edges(values.max(axis=1, keepdims=True).astype(np.float64), bins)
    return np.take_along_axis(edges, index[:, None], axis=1)[:, 0]


def amax_mse_rows(
    values: NDArray[np.float32], bins: int, *, bits: int = 8, unsigned: bool = False, start_bin: int = 128
) -> NDArray[np.float32]:
    """Return for each row what :func:`~yoloqat.quant.calib.amax_mse` gives on its histogram.

    All rows share one table from bins to integers, since their edges differ only by a factor.

    Args:
        values: Absolute values, shape (channels, values per channel); every row has a value above 0.
        bins: Bins of each histogram.
        bits: Bit width.
        unsigned: True for unsigned integers.
        start_bin: First candidate, in bins.
    """
    counts = channel_histograms(values, bins).astype(np.float64)
    edges = _edges(values.max(axis=1, keepdims=True).astype(np.float64), bins)
    centers = (edges[:, 1:] + edges[:, :-1]) / np.float32(2)
    unit = np.arange(bins) + 0.5  # centres in bins
    high = (1 << (bits - 1 + int(unsigned))) - 1
    candidates = np.arange(min(start_bin, bins - 1), bins)
    zero = np.zeros((len(counts), 1))
    sum_0 = np.concatenate([zero, np.cumsum(counts, axis=1)], axis=1)
    sum_1 = np.concatenate([zero, np.cumsum(counts * unit, axis=1)], axis=1)
    levels = np.arange(high + 1)
    best, least = np.zeros(len(counts), np.int64), np.full(len(counts), np.inf)
    block = max(_BLOCK // (high * len(counts)), 1)
    for start in range(0, len(candidates), block):
        tried = candidates[start : start + block]
        step = unit[tried][:, None] / high
        ends = np.full((len(tried), 1), bins)
        bounds = np.concatenate([np.zeros_like(ends), np.searchsorted(unit, (levels[:-1] + 0.5) * step), ends], axis=1)
        value = levels * step
        c_0, c_1 = np.diff(sum_0[:, bounds], axis=2), np.diff(sum_1[:, bounds], axis=2)
        errors = (value**2 * c_0 - 2.0 * value * c_1).sum(axis=2)  # up to a sum that is the same for all candidates
        found = errors.argmin(axis=1)
        errors = errors[np.arange(len(errors)), found]
        best = np.where(errors < least, tried[found], best)
        least = np.minimum(least, errors)
    return np.take_along_axis(centers, best[:, None], axis=1)[:, 0]
