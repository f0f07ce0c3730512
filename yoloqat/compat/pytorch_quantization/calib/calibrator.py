"""Base class of calibrators (NVIDIA's ``calib.calibrator``); scripts derive their own from it."""

from __future__ import annotations

from typing import Any

from torch import Tensor

__all__ = ["_Calibrator"]


class _Calibrator:
    """Collects statistics of tensors and computes amax from them.

    Args:
        num_bits: Bit width that amax is for.
        axis: Axis or axes with an amax of their own, or None.
        unsigned: True for unsigned integers.
    """

    def __init__(self, num_bits: Any, axis: int | tuple[int, ...] | None, unsigned: bool) -> None:
        self._num_bits = num_bits
        self._axis = axis
        self._unsigned = unsigned

    def collect(self, x: Tensor) -> None:
        """Collect statistics of ``x``.

        Raises:
            NotImplementedError: The class derived from this one does not say how.
        """
        raise NotImplementedError

    def reset(self) -> None:
        """Clear the statistics.

        Raises:
            NotImplementedError: The class derived from this one does not say how.
        """
        raise NotImplementedError

    def compute_amax(self, *args: Any, **kwargs: Any) -> Tensor | None:
        """Return amax; None before any data.

        Raises:
            NotImplementedError: The class derived from this one does not say how.
        """
        raise NotImplementedError

    def __repr__(self) -> str:
        """Return the name of the class and its settings."""
        return f"{type(self).__name__}(num_bits={self._num_bits}, axis={self._axis}, unsigned={self._unsigned})"
