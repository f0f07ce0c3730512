"""The calibrator that keeps the largest absolute value, for the whole tensor or per channel."""

from __future__ import annotations

import torch
from torch import Tensor

from yoloqat.errors import CalibrationError
from yoloqat.quant.calib.counting import not_finite
from yoloqat.quant.functional import reduce_amax


class MaxCalibrator:
    """Keeps the running maximum of absolute values (NVIDIA's ``calib.MaxCalibrator``).

    Args:
        axis: Channel axis or axes to keep, or None for one value.
    """

    def __init__(self, *, axis: int | tuple[int, ...] | None = None) -> None:
        self._axis = axis
        self._calib_amax: Tensor | None = None

    def collect(self, x: Tensor) -> None:
        """Update the maximum with ``x``; on an accelerator without waiting for it.

        Raises:
            CalibrationError: ``x`` is empty, is on the host and holds NaN or Inf, or its channels do not fit what was
                collected before.
        """
        amax = reduce_amax(x, axis=self._axis).float()
        if amax.device.type == "cpu":
            _check_finite(amax)
        if self._calib_amax is not None and amax.shape != self._calib_amax.shape:
            raise CalibrationError(
                f"amax has shape {tuple(amax.shape)}",
                expected=f"the shape collected before, {tuple(self._calib_amax.shape)}",
                hint="reset the calibrator first",
            )
        self._calib_amax = amax if self._calib_amax is None else torch.maximum(self._calib_amax, amax)

    def compute_amax(self) -> Tensor | None:
        """Return the maximum collected so far, float32, broadcastable to the tensor; None before any data.

        Raises:
            CalibrationError: A tensor of an accelerator held NaN or Inf: both are still in the maximum.
        """
        if self._calib_amax is not None:
            _check_finite(self._calib_amax)
        return self._calib_amax

    def reset(self) -> None:
        """Clear the statistics."""
        self._calib_amax = None


def _check_finite(amax: Tensor) -> None:
    if not bool(torch.isfinite(amax).all()):
        raise not_finite(bool(amax.isnan().any()))
