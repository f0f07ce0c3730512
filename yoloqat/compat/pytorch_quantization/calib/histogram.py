"""The calibrator that keeps a histogram: the core's collection under NVIDIA's names, with NVIDIA's searches."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from yoloqat.compat.errors import ArgumentTypeError, ArgumentValueError, StateError
from yoloqat.compat.pytorch_quantization._state import LOG
from yoloqat.config.checks import check_int
from yoloqat.quant.calib import HistogramCalibrator as CoreHistogramCalibrator
from yoloqat.quant.calib import amax_entropy, amax_mse, amax_percentile

__all__ = ["HistogramCalibrator"]


class HistogramCalibrator(CoreHistogramCalibrator):
    """Collects a histogram of absolute values, exact, bounded and the same for any order of batches.

    Args:
        num_bits: Width of the codes that amax is for.
        axis: Must be None.
        unsigned: Whether those codes are unsigned.
        num_bins: The least number of bins up to the largest value; between it and four times as many are used.
        grow_method: Not used any more in NVIDIA's package either.
        skip_zeros: Leave zeros out.
        torch_hist: Whether ``_calib_hist`` and ``_calib_bin_edges`` answer with tensors rather than arrays.

    Raises:
        ArgumentValueError: ``axis`` is not None.
        ConfigError: ``num_bins`` is too small or too large.
    """

    def __init__(
        self,
        num_bits: int = 8,
        axis: int | tuple[int, ...] | None = None,
        unsigned: bool = False,
        num_bins: int = 2048,
        grow_method: str | None = None,
        skip_zeros: bool = False,
        torch_hist: bool = True,
    ) -> None:
        if axis is not None:
            raise ArgumentValueError(
                f"axis is {axis!r} for a histogram", expected="None", mend="calibrate channels with calib_method='max'"
            )
        if grow_method is not None:
            LOG.warning("grow_method is deprecated; %r is ignored", grow_method)
        check_int("num_bins", num_bins, 128, 1 << 19)
        # of a power of two of bins the core uses at least half
        super().__init__(num_bits, unsigned=unsigned, num_bins=2 << (num_bins - 1).bit_length())
        self._axis = None
        self._skip_zeros = skip_zeros
        self._torch_hist = torch_hist

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over also what NVIDIA's own class pickled: its histogram becomes one that was set."""
        if "_calib_hist" not in state:
            self.__dict__.update(state)
            return
        self.__init__(state["_num_bits"], None, state["_unsigned"])  # type: ignore[misc]
        self._skip_zeros, self._torch_hist = state["_skip_zeros"], state["_torch_hist"]
        if state["_calib_hist"] is not None:
            self._calib_hist, self._calib_bin_edges = state["_calib_hist"], state["_calib_bin_edges"]

    def reset(self) -> None:
        """Forget everything collected, and a histogram that was set."""
        super().reset()
        self._set_counts: NDArray[np.int64] | None = None
        self._set_edges: NDArray[np.float32] | None = None

    def collect(self, x: Tensor) -> None:
        """Count every element of ``x``.

        Raises:
            StateError: A histogram was set from outside, whose bins are not ours.
            CalibrationError: ``x`` holds NaN or Inf, or is empty.
        """
        if self._set_counts is not None or self._set_edges is not None:
            raise StateError(
                f"a histogram of {0 if self._set_counts is None else len(self._set_counts)} bins was set",
                expected="a calibrator that collected everything itself",
                mend="reset it before collecting",
            )
        if self._skip_zeros and x.numel():
            x = x[x != 0]
            if not x.numel():
                return
        super().collect(x)

    @property
    def _calib_hist(self) -> Any:
        """The counts, int64, shape (bins,); None before any data."""
        return self._answer(self._arrays()[0])

    @_calib_hist.setter
    def _calib_hist(self, value: Any) -> None:
        if value is None:
            self.reset()
        else:
            self._set_counts = _array(value).astype(np.int64)

    @property
    def _calib_bin_edges(self) -> Any:
        """The bin edges, float32, shape (bins + 1,); None before any data."""
        return self._answer(self._arrays()[1])

    @_calib_bin_edges.setter
    def _calib_bin_edges(self, value: Any) -> None:
        if value is None:
            self.reset()
        else:
            self._set_edges = _array(value).astype(np.float32)

    def _arrays(self) -> tuple[NDArray[np.int64] | None, NDArray[np.float32] | None]:
        if self._set_counts is not None or self._set_edges is not None:
            return self._set_counts, self._set_edges
        histogram = self.histogram()
        return (None, None) if histogram is None else (histogram.counts, histogram.edges)

    def _answer(self, values: NDArray[Any] | None) -> Any:
        return torch.from_numpy(values) if values is not None and self._torch_hist else values

    def compute_amax(  # type: ignore[override]  # the core's takes a MethodSpec, NVIDIA's never knew "max"
        self, method: str, *, stride: int = 1, start_bin: int = 128, percentile: float = 99.99
    ) -> Tensor | None:
        """Return amax by NVIDIA's search, float32, shape (); None before any data.

        Args:
            method: ``"entropy"``, ``"mse"`` or ``"percentile"``.
            stride: Distance between the candidates of entropy and mse, in bins.
            start_bin: First candidate of entropy and mse, in bins.
            percentile: Share of absolute values below amax, in percent.

        Raises:
            ArgumentTypeError: The method is unknown.
            ArgumentValueError: The percentile is not from 0 to 100.
            StateError: Only one of histogram and edges was set, or their lengths do not fit.
        """
        if method not in ("entropy", "mse", "percentile"):
            raise ArgumentTypeError(
                f"calibration method is {method!r}", expected="'entropy', 'mse' or 'percentile'", mend="choose one"
            )
        if not 0.0 <= percentile <= 100.0:
            raise ArgumentValueError(f"percentile is {percentile!r}", expected="0 to 100", mend="write e.g. 99.99")
        counts, edges = self._arrays()
        if counts is None and edges is None:
            return None
        if counts is None or edges is None or len(edges) != len(counts) + 1:
            lengths = [None if values is None else len(values) for values in (counts, edges)]
            raise StateError(
                f"histogram and edges have lengths {lengths}", expected="one edge more than bins", mend="set both"
            )
        return torch.tensor(self._search(counts, edges, method, stride, start_bin, percentile))

    def _search(
        self,
        counts: NDArray[np.int64],
        edges: NDArray[np.float32],
        method: str,
        stride: int,
        start_bin: int,
        percentile: float,
    ) -> float:
        if method == "percentile":
            found = amax_percentile(counts, edges, percentile=percentile)
        else:
            search = amax_entropy if method == "entropy" else amax_mse
            found = search(
                counts, edges, bits=self._num_bits, unsigned=self._unsigned, stride=stride, start_bin=start_bin
            )
        histogram = None if self._set_counts is not None else self.histogram()
        if histogram is None:
            return found
        # as in the core: a range of 0 would erase the tensor, one above its maximum waste codes
        return min(max(found, float(edges[1])), histogram.amax)


def _array(value: Any) -> NDArray[Any]:
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
