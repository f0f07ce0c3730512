"""The calibrator that keeps a histogram of absolute values, exact, bounded, and the same for any order of its batches.

Bin widths are powers of two. When a value does not fit, the width doubles and neighbouring bins are added together, which
is exact: the bin of x at width 2w is the bin at width w, halved. So the histogram depends only on what was collected, not
on the order, its size never changes, and histograms of different workers can be merged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from yoloqat.config import MethodSpec
from yoloqat.config.checks import check_int, check_power_of_two
from yoloqat.config.method import PER_LAYER
from yoloqat.errors import CalibrationError, ConfigError
from yoloqat.quant.calib.counting import (
    Counter,
    Counts,
    DeviceCounter,
    HostCounter,
    sampling_step,
)
from yoloqat.quant.calib.search import amax_entropy_even, amax_mse, amax_percentile

MSE_CANDIDATES = 1024
"""Approximate number of candidate ranges of the mse search; more candidates change amax by less than one integer step."""

MSE_COARSE = 8
"""The mse search tries every k-th candidate, then the neighbours of the best; these lie within one 8-bit step."""


@dataclass(frozen=True)
class Histogram:
    """Histogram of the absolute values of one tensor.

    Attributes:
        counts: Number of absolute values in each bin, int64, shape (bins,), cut after the largest value.
        edges: Bin edges, float32, shape (bins + 1,), from 0.
        low: Smallest value, with its sign.
        high: Largest value, with its sign.
    """

    counts: NDArray[np.int64]
    edges: NDArray[np.float32]
    low: float
    high: float

    @property
    def amax(self) -> float:
        """The largest absolute value."""
        return max(-self.low, self.high, 0.0)

    def compute_amax(self, method: MethodSpec, *, bits: int = 8, unsigned: bool = False) -> float:
        """Return amax by ``method``, at most the largest value collected.

        Args:
            method: The search and its parameters.
            bits: Bit width that amax is for.
            unsigned: True for unsigned integers.

        Raises:
            ConfigError: The method needs layer outputs (per-layer choice), which a histogram does not hold.
        """
        if method.kind == PER_LAYER:
            raise ConfigError(
                f"calibration method is {str(method)!r} for a single histogram",
                expected="a method that needs nothing but the histogram",
                hint="choose the method of each layer first",
            )
        if method.kind == "max" or self.amax == 0.0:
            return self.amax
        if method.kind == "percentile":
            found = amax_percentile(self.counts, self.edges, percentile=method.percentile or 100.0)
            # where the first bin holds that share its lower edge, 0, would erase the whole tensor
            found = max(found, float(self.edges[1]))
        elif method.kind == "entropy":
            found = amax_entropy_even(self.counts, self.edges, bits=bits, unsigned=unsigned)
        else:
            stride = max(1, len(self.counts) // MSE_CANDIDATES)
            even = math.frexp(float(self.edges[1]))[0] == 0.5
            found = amax_mse(
                self.counts, self.edges, bits=bits, unsigned=unsigned, stride=stride, even=even, coarse=MSE_COARSE
            )
        return min(found, self.amax)

    def merge(self, other: Histogram) -> Histogram:
        """Return the histogram of the data of this one and ``other``, as one calibrator would have collected it.

        Raises:
            CalibrationError: They were collected with different numbers of bins, or not by a calibrator.
        """
        if other.amax > self.amax:
            return other.merge(self)
        # of two collections with as many bins, the one of the larger values has bins at least as wide
        widths = np.array([self.edges[1], other.edges[1]], np.float64)
        mantissas, exponents = np.frexp(widths)
        if (mantissas != 0.5).any() or exponents[0] < exponents[1]:
            raise CalibrationError(
                f"the histograms to merge have bins {widths[0]} and {widths[1]} wide",
                expected="powers of two, the wider where the values are larger",
                hint="collect both with the same number of bins",
            )
        steps = int(exponents[0] - exponents[1])
        counts = self.counts.copy()
        np.add.at(counts, np.arange(len(other.counts)) >> steps, other.counts)
        return Histogram(counts, self.edges, low=min(self.low, other.low), high=max(self.high, other.high))


class HistogramCalibrator:
    """Collects a histogram of absolute values, from which every method computes amax.

    Tensors of an accelerator are counted there without waiting for it; :meth:`check`, :meth:`histogram` or :meth:`compute_amax`.

    Args:
        num_bits: Bit width that amax is for.
        unsigned: True for unsigned integers.
        num_bins: Number of bins, a power of two; between half of them and all lie below the largest value.
        sample: Sample about every k-th element of large tensors; the range is that of all elements nevertheless.

    Raises:
        ConfigError: ``num_bins`` is no power of two from 256 to 2^20, or ``sample`` is not positive.
    """

    _sample = 1  # for calibrators that were pickled before there was a choice

    def __init__(self, num_bits: int = 8, *, unsigned: bool = False, num_bins: int = 8192, sample: int = 1) -> None:
        check_int("num_bins", num_bins, 256, 1 << 20)
        check_power_of_two("num_bins", num_bins)
        check_int("sample", sample, 1)
        self._num_bits = num_bits
        self._unsigned = unsigned
        self._num_bins = num_bins
        self._sample = sample
        self.reset()

    def reset(self) -> None:
        """Clear the statistics."""
        self._counter: Counter | None = None

    def collect(self, x: Tensor) -> None:
        """Count the elements of ``x``.

        Raises:
            CalibrationError: ``x`` is empty, or is on the host and holds NaN or Inf.
        """
        if x.numel() == 0:
            raise CalibrationError(
                f"a tensor to calibrate on has shape {tuple(x.shape)}", expected="elements", hint="check the images"
            )
        step = sampling_step(x.numel(), self._sample)
        with torch.inference_mode(False), torch.no_grad():  # counts of inference mode cannot be added to outside it
            if self._counter is None:
                self._counter = self._make_counter(x.device)
            self._counter.add(x.detach().float(), step)

    def _make_counter(self, device: torch.device) -> Counter:
        return HostCounter(self._num_bins) if device.type == "cpu" else DeviceCounter(self._num_bins, device)

    @property
    def flag(self) -> Tensor | None:
        """On an accelerator, a tensor there that is not 0 once something was not finite; None elsewhere."""
        return self._counter.flag if isinstance(self._counter, DeviceCounter) else None

    def check(self) -> None:
        """Raise the errors that :meth:`collect` deferred.

        Raises:
            CalibrationError: A tensor of an accelerator held NaN or Inf.
        """
        if self._counter is not None:
            self._counter.check()

    def state(self) -> Counts | None:
        """Return the counts on the host, or None before any data.

        Raises:
            CalibrationError: A tensor of an accelerator held NaN or Inf.
        """
        if self._counter is None:
            return None
        self.check()
        state = self._counter.state()
        return None if state.low > state.high else state  # the first tensor was refused

    def histogram(self) -> Histogram | None:
        """Return the histogram of all data so far, or None before any.

        Raises:
            CalibrationError: A tensor of an accelerator held NaN or Inf.
        """
        state = self.state()
        if state is None:
            return None
        amax = max(-state.low, state.high, 0.0)
        used = min(int(amax * 2.0**-state.exponent) + 1, self._num_bins)
        edges = np.arange(used + 1, dtype=np.float64) * 2.0**state.exponent
        return Histogram(state.counts[:used].numpy(), edges.astype(np.float32), low=state.low, high=state.high)

    def compute_amax(self, method: str | MethodSpec = "entropy", *, percentile: float = 99.99) -> Tensor | None:
        """Return amax by ``method``, float32, shape (); None before any data.

        Args:
            method: ``"max"``, ``"entropy"``, ``"mse"`` or ``"percentile"``.
            percentile: Share of absolute values below amax, in percent, for ``"percentile"``.

        Raises:
            ConfigError: The method is unknown.
            CalibrationError: A tensor of an accelerator held NaN or Inf.
        """
        if isinstance(method, str):
            method = MethodSpec(method, percentile if method == "percentile" else None)
        histogram = self.histogram()
        if histogram is None:
            return None
        return torch.tensor(histogram.compute_amax(method, bits=self._num_bits, unsigned=self._unsigned))

    def merge(self, other: HistogramCalibrator) -> None:
        """Add the counts of ``other``, as if its batches had been collected here; the counts move to the host.

        Raises:
            CalibrationError: The two have different numbers of bins, or a tensor of an accelerator held NaN or Inf.
        """
        if other._num_bins != self._num_bins:
            raise CalibrationError(
                f"the other histogram has {other._num_bins} bins",
                expected=f"{self._num_bins} bins",
                hint="collect both with the same number",
            )
        merged = HostCounter(self._num_bins)
        for state in (self.state(), other.state()):
            if state is not None:
                merged.merge(state)
                self._counter = merged
