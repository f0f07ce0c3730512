"""The calibrator that keeps a histogram: NVIDIA's bins, searched by the core."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from yoloqat.compat.errors import ArgumentTypeError, ArgumentValueError, StateError, UnsupportedError, as_runtime_errors
from yoloqat.compat.pytorch_quantization._state import LOG
from yoloqat.compat.pytorch_quantization.calib.calibrator import _Calibrator
from yoloqat.quant.calib import amax_entropy, amax_mse, amax_percentile
from yoloqat.quant.calib.counting import not_finite
from yoloqat.quant.functional import reduce_amax

__all__ = ["HistogramCalibrator"]

MOST_BINS = 1 << 17
"""Beyond this many bins their width doubles; NVIDIA's histogram grows without end after a first batch of small values."""

_EXACT = 1 << 24
"""Elements per call: ``torch.histc`` counts in float32, which holds whole numbers up to this."""


class HistogramCalibrator(_Calibrator):
    """Collects a histogram of absolute values in the bins of NVIDIA's class; it adds to a histogram that was set.

    The first batch with a value other than 0 sets the width of the bins: ``num_bins`` from 0 to its largest value. Later
    batches append bins of that width.

    Args:
        num_bits: Bit width that amax is for.
        axis: Must be None.
        unsigned: True for unsigned integers.
        num_bins: Bins for the first batch.
        grow_method: Not used any more in NVIDIA's package either.
        skip_zeros: Leave zeros out.
        torch_hist: Keep ``_calib_hist`` (int64) and ``_calib_bin_edges`` (float32) as tensors instead of arrays.

    Raises:
        UnsupportedError: ``axis`` is not None.
        ArgumentValueError: ``num_bins`` is not from 1 to :data:`MOST_BINS`.
    """

    def __init__(
        self,
        num_bits: Any = 8,
        axis: int | tuple[int, ...] | None = None,
        unsigned: bool = False,
        num_bins: int = 2048,
        grow_method: str | None = None,
        skip_zeros: bool = False,
        torch_hist: bool = True,
    ) -> None:
        super().__init__(num_bits, axis, unsigned)
        if axis is not None:
            raise UnsupportedError(
                f"axis is {axis!r} for a histogram", expected="None", hint="calibrate channels with calib_method='max'"
            )
        if grow_method is not None:
            LOG.warning("grow_method is deprecated; %r is ignored", grow_method)
        if not isinstance(num_bins, int) or not 1 <= num_bins <= MOST_BINS:
            raise ArgumentValueError(
                f"num_bins is {num_bins!r}", expected=f"1 to {MOST_BINS}", hint="leave it out for 2048"
            )
        self._num_bins = num_bins
        self._skip_zeros = skip_zeros
        self._torch_hist = torch_hist
        self.reset()

    def reset(self) -> None:
        """Clear the statistics and a histogram that was set."""
        self._calib_hist: Any = None
        self._calib_bin_edges: Any = None

    def collect(self, x: Tensor) -> None:
        """Count every element of ``x``.

        Raises:
            StateError: ``x`` is empty or holds NaN or Inf, or the lengths of histogram and edges do not fit.
        """
        with torch.inference_mode(False), torch.no_grad(), as_runtime_errors():
            largest = float(reduce_amax(x))
            if not math.isfinite(largest):
                raise not_finite(math.isnan(largest))
            values = x.detach().abs().float().flatten()
            if self._skip_zeros:
                values = values[values != 0]
            if values.numel():
                self._add(values, largest)

    def _add(self, values: Tensor, largest: float) -> None:
        counts, edges = (None if array is None else torch.from_numpy(array) for array in self._arrays())
        if counts is None or edges is None or edges[1] <= edges[0]:  # none yet, or nothing but zeros
            zeros = 0 if counts is None else int(counts.sum())
            edges = torch.linspace(0, largest, self._num_bins + 1)
            counts = torch.zeros(self._num_bins, dtype=torch.int64)
            counts[0] = zeros
        if largest > edges[-1]:
            counts, edges = _grown(counts, edges, largest)
        added = _counted(values, edges)
        added[: len(counts)] += counts
        self._calib_hist = added if self._torch_hist else added.numpy()
        self._calib_bin_edges = edges if self._torch_hist else edges.numpy()

    def _arrays(self) -> tuple[NDArray[np.int64] | None, NDArray[np.float32] | None]:
        counts, edges = (
            None if held is None else held.detach().cpu().numpy() if isinstance(held, Tensor) else np.asarray(held)
            for held in (self._calib_hist, self._calib_bin_edges)
        )
        if counts is None or edges is None:
            return None, None
        if len(edges) != len(counts) + 1:
            raise StateError(
                f"histogram and edges have lengths {len(counts)} and {len(edges)}",
                expected="one edge more than bins",
                hint="set both",
            )
        return counts.astype(np.int64), edges.astype(np.float32)

    def compute_amax(
        self, method: str, *, stride: int = 1, start_bin: int = 128, percentile: float = 99.99
    ) -> Tensor | None:
        """Return amax by NVIDIA's search, float32, shape (); None before any data.

        Args:
            method: ``"entropy"``, ``"mse"`` or ``"percentile"``.
            stride: Distance between the candidates of entropy and mse, in bins.
            start_bin: First candidate of entropy and mse, in bins.
            percentile: Share of absolute values below amax, in percent.

        Raises:
            ArgumentTypeError: The method is unknown, or searches among integers and the format is FP8.
            ArgumentValueError: The percentile is not from 0 to 100, or a number of bins is out of range.
            StateError: The lengths of histogram and edges do not fit.
        """
        if method not in ("entropy", "mse", "percentile"):
            raise ArgumentTypeError(
                f"calibration method is {method!r}", expected="'entropy', 'mse' or 'percentile'", hint="choose one"
            )
        if not 0.0 <= percentile <= 100.0:
            raise ArgumentValueError(
                f"percentile is {percentile!r}", expected="a number in the range 0 to 100", hint="write e.g. 99.99"
            )
        for name, value, least in (("stride", stride, 1), ("start_bin", start_bin, 0)):
            if value < least:
                raise ArgumentValueError(
                    f"{name} is {value!r}", expected=f"at least {least}", hint="leave it out for the default"
                )
        if method != "percentile" and isinstance(self._num_bits, tuple):
            raise ArgumentTypeError(
                f"num_bits is {self._num_bits!r} with method {method!r}",
                expected="a number of bits",
                hint="take the percentile or max",
            )
        counts, edges = self._arrays()
        if counts is None or edges is None:
            return None
        if method == "percentile":
            found = amax_percentile(counts, edges, percentile=percentile)
        else:
            search = amax_entropy if method == "entropy" else amax_mse
            found = search(
                counts, edges, bits=self._num_bits, unsigned=self._unsigned, stride=stride, start_bin=start_bin
            )
        return torch.tensor(max(found, float(edges[1])))  # a range of 0 would erase the tensor

    def __repr__(self) -> str:
        """Return its settings and the number of collected values."""
        counts, _ = self._arrays()
        return f"{super().__repr__()[:-1]}, {0 if counts is None else counts.sum()} values)"


def _grown(counts: Tensor, edges: Tensor, largest: float) -> tuple[Tensor, Tensor]:
    """Append bins up to ``largest``, after adding neighbouring bins together where there would be too many."""
    width, top = edges[1] - edges[0], torch.tensor(largest)
    while top / width > MOST_BINS:
        width = width * 2
        counts = torch.nn.functional.pad(counts, (0, len(counts) % 2)).view(-1, 2).sum(dim=1)
    bins = max(int((top / width).ceil()), len(counts))
    # NVIDIA's class makes its edges so; by rounding there may be one more than it has bins, or the last may be too low
    edges = torch.arange(0, float(top + width), float(width))[: bins + 1]
    if len(edges) <= bins or edges[-1] < top:
        edges = torch.cat([edges, edges[-1:] + width])
    return counts, edges


def _counted(values: Tensor, edges: Tensor) -> Tensor:
    """Return the number of ``values`` in each bin, int64 on the host."""
    bins = len(edges) - 1
    if edges[-1] <= 0:
        counts = torch.zeros(bins, dtype=torch.int64)
        counts[0] = values.numel()
        return counts
    parts = [torch.histc(part, bins, 0, float(edges[-1])).long() for part in torch.split(values, _EXACT)]
    return torch.stack(parts).sum(dim=0).cpu()
