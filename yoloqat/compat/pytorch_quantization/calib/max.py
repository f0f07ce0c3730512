"""The calibrator that keeps the largest absolute value."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from yoloqat.compat.errors import as_runtime_errors
from yoloqat.compat.pytorch_quantization.calib.calibrator import _Calibrator
from yoloqat.quant.calib import MaxCalibrator as CoreMaxCalibrator
from yoloqat.quant.functional import reduce_amax

__all__ = ["MaxCalibrator"]


class MaxCalibrator(CoreMaxCalibrator, _Calibrator):
    """Keeps the running maximum of absolute values.

    Args:
        num_bits: Bit width; kept, not used.
        axis: Channel axis or axes to keep, or None for one value.
        unsigned: Kept, not used.
        track_amax: Keep also the maximum of every batch, in :attr:`amaxs`.
    """

    def __init__(
        self,
        num_bits: Any = 8,
        axis: int | tuple[int, ...] | None = None,
        unsigned: bool = False,
        track_amax: bool = False,
    ) -> None:
        super().__init__(axis=tuple(axis) if isinstance(axis, list) else axis)
        self._num_bits = num_bits
        self._unsigned = unsigned
        self._track_amax = track_amax
        self._amaxs: list[NDArray[Any]] = []

    @property
    def amaxs(self) -> list[NDArray[Any]]:
        """The maximum of each batch, as arrays."""
        return self._amaxs

    def collect(self, x: Tensor) -> None:
        """Update the maximum with ``x``.

        Raises:
            StateError: As the core's CalibrationError.
        """
        with as_runtime_errors():
            super().collect(x)
        if self._track_amax:
            self._amaxs.append(reduce_amax(x, axis=self._axis).float().cpu().numpy())

    def compute_amax(self) -> Tensor | None:
        """Return the maximum collected so far, float32; a single value has shape (), as in NVIDIA's state dicts."""
        with as_runtime_errors():
            amax = super().compute_amax()
        return amax.reshape(()) if amax is not None and amax.numel() == 1 else amax
