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
from yoloqat.errors import CalibrationError
from yoloqat.quant.calib.search import amax_entropy_even, amax_mse, amax_percentile

MSE_CANDIDATES = 1024
"""About how many ranges the search by mse tries; a finer choice changes amax by less than a quantization step."""

_MIN_EXPONENT = -100  # widths stay normal float32 numbers, so scaling by them is exact


@dataclass(frozen=True)
class Histogram:
    """What was collected of one tensor.

    Attributes:
        counts: How many absolute values fell into each bin, int64, shape (bins,), cut after the largest value.
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
            method: Which search, with its parameters.
            bits: Width of the codes that amax is for.
            unsigned: Whether the codes are unsigned.
        """
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
            found = amax_mse(self.counts, self.edges, bits=bits, unsigned=unsigned, stride=stride)
        return min(found, self.amax)


class HistogramCalibrator:
    """Collects a histogram of absolute values, from which any method finds amax.

    Args:
        num_bits: Width of the codes that amax is for.
        unsigned: Whether those codes are unsigned.
        num_bins: Number of bins, a power of two; between half of them and all lie below the largest value.

    Raises:
        ConfigError: ``num_bins`` is no power of two from 256 to 2^20.
    """

    def __init__(self, num_bits: int = 8, *, unsigned: bool = False, num_bins: int = 8192) -> None:
        check_int("num_bins", num_bins, 256, 1 << 20)
        check_power_of_two("num_bins", num_bins)
        self._num_bits = num_bits
        self._unsigned = unsigned
        self._num_bins = num_bins
        self.reset()

    def reset(self) -> None:
        """Forget everything collected."""
        self._counts: Tensor | None = None
        self._exponent = _MIN_EXPONENT
        self._low = math.inf
        self._high = -math.inf

    def collect(self, x: Tensor) -> None:
        """Count every element of ``x``.

        Raises:
            CalibrationError: ``x`` holds NaN or Inf, or is empty.
        """
        if x.numel() == 0:
            raise CalibrationError(
                f"a tensor to calibrate on has shape {tuple(x.shape)}", expected="elements", mend="check the images"
            )
        with torch.inference_mode(False), torch.no_grad():  # counts of inference mode cannot be added to outside it
            self._collect(x.detach().float())

    def _collect(self, x: Tensor) -> None:
        low, high = (float(value) for value in torch.stack(x.aminmax()))
        if not (math.isfinite(low) and math.isfinite(high)):
            raise CalibrationError(
                f"a tensor to calibrate on holds {'NaN' if math.isnan(low) or math.isnan(high) else 'Inf'}",
                expected="finite values",
                mend="check the weights and the images",
            )
        self._low, self._high = min(self._low, low), max(self._high, high)
        self._widen(max(-low, high))
        bins = torch.mul(_flat(x), 2.0**-self._exponent).abs_().to(torch.int32)
        if self._counts is None:
            self._counts = torch.zeros(self._num_bins, dtype=torch.int64, device=x.device)
        # index_add_ counts in int64 (histc's float32 counts stop at 2^24) and does not wait for a CUDA device
        one = torch.ones((), dtype=torch.int64, device=x.device)
        self._counts.index_add_(0, bins, one.expand(bins.numel()))

    def _widen(self, amax: float) -> None:
        """Double the bin width until ``amax`` lies below the last edge."""
        if amax == 0.0:
            return
        # frexp gives amax = m * 2^e with m < 1, so 2^e > amax is the least power of two above it
        needed = max(math.frexp(amax)[1] - self._num_bins.bit_length() + 1, _MIN_EXPONENT)
        steps = needed - self._exponent
        if steps <= 0:
            return
        if self._counts is not None:
            self._counts = _merged_bins(self._counts, steps)
        self._exponent = needed

    def histogram(self) -> Histogram | None:
        """Return what was collected so far, or None before any data."""
        if self._counts is None:
            return None
        amax = max(-self._low, self._high, 0.0)
        used = min(int(amax * 2.0**-self._exponent) + 1, self._num_bins)
        edges = np.arange(used + 1, dtype=np.float64) * 2.0**self._exponent
        return Histogram(
            self._counts[:used].cpu().numpy().copy(), edges.astype(np.float32), low=self._low, high=self._high
        )

    def compute_amax(self, method: str | MethodSpec = "entropy", *, percentile: float = 99.99) -> Tensor | None:
        """Return amax by ``method``, float32, shape (); None before any data.

        Args:
            method: ``"max"``, ``"entropy"``, ``"mse"`` or ``"percentile"``.
            percentile: Share of absolute values below amax, in percent, for ``"percentile"``.

        Raises:
            ConfigError: The method is unknown.
        """
        if isinstance(method, str):
            method = MethodSpec(method, percentile if method == "percentile" else None)
        histogram = self.histogram()
        if histogram is None:
            return None
        return torch.tensor(histogram.compute_amax(method, bits=self._num_bits, unsigned=self._unsigned))

    def merge(self, other: HistogramCalibrator) -> None:
        """Add what ``other`` collected, as if its batches had been collected here.

        Raises:
            CalibrationError: The two have different numbers of bins.
        """
        if other._num_bins != self._num_bins:
            raise CalibrationError(
                f"the other histogram has {other._num_bins} bins",
                expected=f"{self._num_bins} bins",
                mend="collect both with the same number",
            )
        if other._counts is None:
            return
        self._widen(max(-other._low, other._high))
        counts = _merged_bins(other._counts, max(self._exponent - other._exponent, 0))
        self._counts = counts.clone() if self._counts is None else self._counts + counts.to(self._counts.device)
        self._low, self._high = min(self._low, other._low), max(self._high, other._high)


def _flat(x: Tensor) -> Tensor:
    """Return the elements of ``x`` in the order they lie in memory, without a copy where that is possible."""
    if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        x = x.permute(0, 2, 3, 1)
    return x.reshape(-1)


def _merged_bins(counts: Tensor, steps: int) -> Tensor:
    """Add 2^steps neighbouring bins together, keeping the number of bins."""
    merged = torch.zeros_like(counts)
    factor = 1 << min(steps, counts.numel().bit_length())
    bins = torch.arange(counts.numel(), device=counts.device) // factor
    return merged.index_add_(0, bins, counts)
