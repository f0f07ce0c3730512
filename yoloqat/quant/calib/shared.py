"""The calibrator of a scale that several tensors share: a histogram of each, whose sum is that of all."""

from __future__ import annotations

import torch
from torch import Tensor

from yoloqat.quant.calib.counting import Counts, HostCounter
from yoloqat.quant.calib.histogram import Histogram, HistogramCalibrator


class SharedCalibrator(HistogramCalibrator):
    """Collects the tensors of one forward, in the order of execution, each in a histogram of its own.

    The sum is what one calibrator would have collected of all, bit for bit. Call :meth:`begin` before every forward.

    Args:
        tensors: Number of tensors per forward.
        num_bits: As for :class:`HistogramCalibrator`, like the others.
        unsigned: True for unsigned integers.
        num_bins: Number of bins of each histogram.
        sample: Sample about every k-th element of large tensors.
    """

    def __init__(
        self, tensors: int, num_bits: int = 8, *, unsigned: bool = False, num_bins: int = 8192, sample: int = 1
    ) -> None:
        self._parts = [
            HistogramCalibrator(num_bits, unsigned=unsigned, num_bins=num_bins, sample=sample) for _ in range(tensors)
        ]
        super().__init__(num_bits, unsigned=unsigned, num_bins=num_bins, sample=sample)

    def reset(self) -> None:
        """Clear the statistics."""
        super().reset()
        self._next, self._told_apart = 0, True
        for part in self._parts:
            part.reset()

    def begin(self) -> None:
        """Expect the first tensor again."""
        self._told_apart &= self._next in (0, len(self._parts))
        self._next = 0

    def collect(self, x: Tensor) -> None:
        """Count the elements of the next tensor.

        Raises:
            CalibrationError: ``x`` is empty, or is on the host and holds NaN or Inf.
        """
        self._parts[min(self._next, len(self._parts) - 1)].collect(x)
        self._next += 1

    @property
    def flag(self) -> Tensor | None:
        """On an accelerator, a tensor there that is not 0 once something was not finite; None elsewhere."""
        flags = [flag for part in self._parts if (flag := part.flag) is not None]
        return torch.stack(flags).amax() if flags else None

    def check(self) -> None:
        """Raise the errors that :meth:`collect` deferred.

        Raises:
            CalibrationError: A tensor of an accelerator held NaN or Inf.
        """
        for part in self._parts:
            part.check()

    def state(self) -> Counts | None:
        """Return the counts of all tensors on the host, or None before any data.

        Raises:
            CalibrationError: A tensor of an accelerator held NaN or Inf.
        """
        states = [state for part in self._parts if (state := part.state()) is not None]
        merged = HostCounter(self._num_bins)
        for state in states:
            merged.merge(state)
        return merged.state() if states else None

    def tensors(self) -> list[Histogram] | None:
        """Return the histogram of each tensor; None where a forward had more or fewer tensors than expected."""
        self.begin()
        found = [histogram for part in self._parts if (histogram := part.histogram()) is not None]
        return found if self._told_apart and len(found) == len(self._parts) else None
