"""The counts behind a histogram of absolute values, on the host or on an accelerator, by one arithmetic.

Bin widths are powers of two and scaling by them is exact, so both counters put every value into the same bin. The host
counter reads each tensor's range at once and refuses tensors that are not finite immediately. The device counter keeps the
range, the width and the error flag in tensors of the device and never waits for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from yoloqat.errors import CalibrationError

MIN_EXPONENT = -100  # widths stay normal float32 numbers, so scaling by them is exact

LARGE = 1 << 16
"""Tensors with at least this many elements are sampled when a sampling step is set."""

_PART = 1 << 18
"""Elements per part on the host: the allocator reuses buffers of this size and maps larger ones anew each time."""

_FINITE, _INF, _NAN = 0, 1, 2


@dataclass(frozen=True)
class Counts:
    """A state of a counter, on the host.

    Attributes:
        counts: int64, shape (bins,).
        exponent: The bins are 2^exponent wide.
        low: Smallest value, with its sign; infinity before any.
        high: Largest value, with its sign; minus infinity before any.
    """

    counts: Tensor
    exponent: int
    low: float
    high: float


class Counter(Protocol):
    """Counts the absolute values of tensors."""

    def add(self, x: Tensor, step: int) -> None:
        """Count every ``step``-th element of ``x``, float32, weighted by ``step``; the range is that of all of them."""

    def check(self) -> None:
        """Raise the errors that :meth:`add` deferred."""

    def state(self) -> Counts:
        """Return the counts so far."""


def not_finite(nan: bool) -> CalibrationError:
    """Return the error for a tensor that holds NaN or, where that is False, Inf."""
    return CalibrationError(
        f"a tensor to calibrate on holds {'NaN' if nan else 'Inf'}",
        expected="finite values",
        hint="check the weights and the images",
    )


def sampling_step(elements: int, sample: int) -> int:
    """Return the distance between the elements that are counted of a tensor.

    It is at least ``sample`` and has no divisor in common with the number of elements, so that no channel, row or column is
    passed over in whatever order the elements lie. Tensors of fewer than :data:`LARGE` elements are counted whole.

    Args:
        elements: Of the tensor.
        sample: The distance asked for; 1 counts all.
    """
    if sample == 1 or elements < LARGE:
        return 1
    step = sample
    while math.gcd(step, elements) != 1:
        step += 1
    return step


def flat(x: Tensor) -> Tensor:
    """Return the elements of ``x`` in the order they lie in memory, without a copy where that is possible."""
    if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        x = x.permute(0, 2, 3, 1)
    return x.reshape(-1)


def fitting_exponent(amax: float, bins: int) -> int:
    """Return the exponent of the least width at which ``amax`` lies below the last of ``bins`` bins."""
    # frexp gives amax = m * 2^e with m < 1, so 2^e > amax is the least power of two above it
    return MIN_EXPONENT if amax == 0.0 else max(math.frexp(amax)[1] - bins.bit_length() + 1, MIN_EXPONENT)


def merged_bins(counts: Tensor, steps: int) -> Tensor:
    """Add 2^steps neighbouring bins together, keeping the number of bins."""
    if steps == 0:
        return counts
    factor = min(1 << min(steps, counts.numel().bit_length()), counts.numel())
    merged = torch.zeros_like(counts)
    merged[: counts.numel() // factor] = counts.view(-1, factor).sum(dim=1)
    return merged


class HostCounter:
    """Counts on the host; raises at once.

    Args:
        bins: Their number, a power of two.
    """

    def __init__(self, bins: int) -> None:
        self._counts = torch.zeros(bins, dtype=torch.int64)
        self._exponent = MIN_EXPONENT
        self._low, self._high = math.inf, -math.inf

    def add(self, x: Tensor, step: int) -> None:
        """Count a tensor.

        Raises:
            CalibrationError: It holds NaN or Inf; nothing of it was counted.
        """
        values = flat(x)  # aminmax of any other layout would copy it first
        low, high = (float(value) for value in torch.stack(values.aminmax()))
        if not (math.isfinite(low) and math.isfinite(high)):
            raise not_finite(math.isnan(low) or math.isnan(high))
        self._low, self._high = min(self._low, low), max(self._high, high)
        self._widen(fitting_exponent(max(-low, high), len(self._counts)))
        values = values[::step]
        size = min(values.numel(), _PART)
        scaled = torch.empty(size)
        bins = torch.empty(size, dtype=torch.int16 if len(self._counts) <= 1 << 15 else torch.int32)
        for part in torch.split(values, _PART):
            within, bin_of = scaled[: part.numel()], bins[: part.numel()]
            torch.mul(part, 2.0**-self._exponent, out=within).abs_()
            bin_of.copy_(within)  # towards zero
            self._counts.add_(torch.bincount(bin_of, minlength=len(self._counts)), alpha=step)

    def merge(self, other: Counts) -> None:
        """Add the counts of another counter with the same number of bins."""
        self._widen(other.exponent)
        self._counts = self._counts + merged_bins(other.counts, self._exponent - other.exponent)
        self._low, self._high = min(self._low, other.low), max(self._high, other.high)

    def _widen(self, exponent: int) -> None:
        if exponent > self._exponent:
            self._counts = merged_bins(self._counts, exponent - self._exponent)
            self._exponent = exponent

    def check(self) -> None:
        """Do nothing: :meth:`add` refuses tensors that are not finite."""

    def state(self) -> Counts:
        """Return the counts so far."""
        return Counts(self._counts.clone(), self._exponent, self._low, self._high)


class DeviceCounter:
    """Counts where the tensors are, without ever waiting for the device.

    A tensor that is not finite is left out and remembered until :meth:`check`.

    Args:
        bins: Their number, a power of two.
        device: Of the tensors.
    """

    def __init__(self, bins: int, device: torch.device) -> None:
        self._counts = torch.zeros(bins, dtype=torch.int64, device=device)
        self._bin = torch.arange(bins, device=device)
        self._exponent = torch.full((), MIN_EXPONENT, dtype=torch.int32, device=device)
        self._range = torch.full((2,), -math.inf, device=device)  # of -x and of x
        self._bad = torch.zeros((), dtype=torch.int32, device=device)
        self._shift = bins.bit_length() - 1

    @property
    def flag(self) -> Tensor:
        """Device tensor: 0 while all tensors were finite, else the kind of the first that was not; callers stack many flags."""
        return self._bad

    def add(self, x: Tensor, step: int) -> None:
        """Count a tensor, or remember that it is not finite."""
        values = flat(x)
        low, high = values.aminmax()
        ends = torch.stack((-low, high))
        finite = ends.isfinite().all()
        kind = torch.where(ends.isnan().any(), _NAN, _INF).to(torch.int32)
        self._bad = torch.where(self._bad == _FINITE, torch.where(finite, self._bad, kind), self._bad)
        self._range = torch.where(finite, torch.maximum(self._range, ends), self._range)
        amax = torch.where(finite, ends.amax().clamp_min(0.0), 0.0)
        # the exponent field of a float32 is that of frexp plus 126, and 0 for zeros and denormal numbers
        needed = (amax.view(torch.int32) >> 23) - 126 - self._shift
        wider = torch.maximum(self._exponent, needed)
        steps = (wider - self._exponent).clamp_max(31).to(torch.int64)
        self._counts = torch.zeros_like(self._counts).index_add_(0, self._bin >> steps, self._counts)
        self._exponent = wider
        scale = ((127 - wider) << 23).view(torch.float32)  # 2^-exponent, exactly
        values = values[::step]
        # a tensor that is not finite counts nothing; its bins must be bins all the same
        scaled = torch.where(finite, torch.mul(values, scale).abs_(), 0.0)
        # index_add_ counts in int64, where histc's float32 counts would stop at 2^24
        weight = torch.where(finite, step, 0).to(torch.int64)
        self._counts.index_add_(0, scaled.to(torch.int32), weight.expand(values.numel()))

    def check(self) -> None:
        """Wait for the device.

        Raises:
            CalibrationError: A tensor since the last reset held NaN or Inf.
        """
        bad = int(self._bad)
        if bad != _FINITE:
            raise not_finite(bad == _NAN)

    def state(self) -> Counts:
        """Return the counts so far; waits for the device."""
        low, high = self._range.tolist()
        return Counts(self._counts.cpu(), int(self._exponent), -low, high)
