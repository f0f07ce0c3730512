"""The calibrator that keeps the largest absolute value."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from yoloqat.compat.errors import ArgumentTypeError
from yoloqat.quant.calib import MaxCalibrator as CoreMaxCalibrator
from yoloqat.quant.functional import reduce_amax

__all__ = ["MaxCalibrator"]


class MaxCalibrator(CoreMaxCalibrator):
    """Keeps the running maximum of absolute values.

    Args:
        num_bits: Width of the codes; kept, not used.
        axis: Channel axis to keep, or None for one value.
        unsigned: Kept, not used.
        track_amax: Keep also the maximum of every batch, in :attr:`amaxs`.
    """

    def __init__(
        self,
        num_bits: int = 8,
        axis: int | tuple[int, ...] | None = None,
        unsigned: bool = False,
        track_amax: bool = False,
    ) -> None:
        super().__init__(axis=single_axis(axis))
        self._num_bits = num_bits
        self._unsigned = unsigned
        self._track_amax = track_amax
        self._amaxs: list[NDArray[Any]] = []

    @property
    def amaxs(self) -> list[NDArray[Any]]:
        """The maximum of each batch, as arrays."""
        return self._amaxs

    def collect(self, x: Tensor) -> None:
        """Take note of ``x``; errors as the core's method."""
        super().collect(x)
        if self._track_amax:
            self._amaxs.append(reduce_amax(x, axis=self._axis).float().cpu().numpy())

    def compute_amax(self) -> Tensor | None:
        """Return the maximum collected so far, float32; a single value has shape (), as in NVIDIA's state dicts."""
        amax = super().compute_amax()
        return amax.reshape(()) if amax is not None and amax.numel() == 1 else amax


def single_axis(axis: int | tuple[int, ...] | None) -> int | None:
    """Return the axis that NVIDIA's interface may wrap in a tuple.

    Raises:
        ArgumentTypeError: There is more than one.
    """
    if not isinstance(axis, tuple | list):
        return axis
    if len(axis) != 1:
        raise ArgumentTypeError(f"axis is {axis!r}", expected="one channel axis", mend="name a single axis")
    return int(axis[0])
