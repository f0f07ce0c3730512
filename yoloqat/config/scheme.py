"""How one tensor is quantized."""

from __future__ import annotations

from dataclasses import dataclass

from yoloqat.config.checks import check_bool, check_int
from yoloqat.errors import ConfigError

BITS = (2, 16)
"""Smallest and largest bit width."""


@dataclass(frozen=True)
class QuantScheme:
    """Quantization scheme of one tensor: bits, symmetric or affine, per tensor or per channel.

    The default is what TensorRT takes for activations: 8 bits, signed, symmetric, one scale for the whole tensor.

    Attributes:
        bits: Bit width, 2 to 16.
        symmetric: True for a zero-point of 0; False (affine) is for CPU engines only, TensorRT refuses it.
        axis: The channel axis that has a scale per index, or None for one scale per tensor.
        unsigned: Integers from 0 to 2^bits - 1 instead of signed ones; needs non-negative values when symmetric.
        narrow_range: Leave out the lowest integer, so that the range is symmetric about zero.

    Raises:
        ConfigError: A value is out of range, or the combination has no meaning.
    """

    bits: int = 8
    symmetric: bool = True
    axis: int | None = None
    unsigned: bool = False
    narrow_range: bool = False

    def __post_init__(self) -> None:
        """Check the values."""
        check_int("bits", self.bits, *BITS)
        check_bool("symmetric", self.symmetric)
        check_bool("unsigned", self.unsigned)
        check_bool("narrow_range", self.narrow_range)
        if self.axis is not None:
            check_int("axis", self.axis, 0, 7)
        if self.narrow_range and self.unsigned:
            raise ConfigError(
                f"narrow_range is {self.narrow_range} with unsigned integers",
                expected="narrow_range only with signed integers",
                hint="leave one of the two out",
            )

    @property
    def low(self) -> int:
        """The smallest integer (qmin)."""
        if self.unsigned:
            return 0
        return -(1 << (self.bits - 1)) + int(self.narrow_range)

    @property
    def high(self) -> int:
        """The largest integer (qmax); `amax` maps to it."""
        return (1 << self.bits) - 1 if self.unsigned else (1 << (self.bits - 1)) - 1
