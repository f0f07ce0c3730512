"""What a quantizer is told when it is made, by NVIDIA's interface."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from yoloqat.config import QuantScheme
from yoloqat.errors import ConfigError


class QuantDescriptor:
    """Describes how one tensor is quantized; the arguments are those of NVIDIA's ``ScaledQuantDescriptor``.

    Args:
        num_bits: Width of the codes.
        name: Name of the tensor, for messages.
        fake_quant: Must be True: integers as floats are not offered by a quantizer.
        axis: Channel axis with a scale per index, or None; a tuple of one axis is taken as that axis.
        amax: A range known beforehand: number, sequence or tensor.
        calib_method: ``"max"`` or ``"histogram"``.
        unsigned: Codes from 0.
        narrow_range: Leave out the lowest code.
        symmetric: False for an affine grid with a zero-point (CPU engines only).

    Raises:
        ConfigError: A value is out of range or names no calibrator.
    """

    def __init__(
        self,
        num_bits: int = 8,
        name: str | None = None,
        *,
        fake_quant: bool = True,
        axis: int | tuple[int, ...] | None = None,
        amax: Any = None,
        calib_method: str = "max",
        unsigned: bool = False,
        narrow_range: bool = False,
        symmetric: bool = True,
    ) -> None:
        if not fake_quant:
            raise ConfigError(f"fake_quant is {fake_quant!r}", expected="True", hint="leave fake_quant out")
        if calib_method not in ("max", "histogram"):
            raise ConfigError(
                f"calib_method is {calib_method!r}", expected="'max' or 'histogram'", hint="choose one of the two"
            )
        if isinstance(axis, tuple):
            if len(axis) != 1:
                raise ConfigError(f"axis is {axis!r}", expected="one channel axis", hint="name a single axis")
            axis = axis[0]
        if axis is not None and (calib_method == "histogram" or not symmetric):
            raise ConfigError(
                f"axis is {axis!r} with calib_method={calib_method!r} and symmetric={symmetric!r}",
                expected="a symmetric scheme calibrated by max where there is a scale per channel",
                hint="leave the axis out, or use calib_method='max' and symmetric=True",
            )
        self.scheme = QuantScheme(
            bits=num_bits, symmetric=symmetric, axis=axis, unsigned=unsigned, narrow_range=narrow_range
        )
        self.name = name
        self.calib_method = calib_method
        self.amax: Tensor | None = None if amax is None else torch.as_tensor(amax, dtype=torch.float32)

    @classmethod
    def from_scheme(
        cls, scheme: QuantScheme, *, name: str | None = None, calib_method: str = "histogram"
    ) -> QuantDescriptor:
        """Make a descriptor from a scheme; per-channel schemes collect by max whatever is asked.

        Raises:
            ConfigError: ``calib_method`` names no calibrator.
        """
        return cls(
            scheme.bits,
            name,
            axis=scheme.axis,
            calib_method="max" if scheme.axis is not None else calib_method,
            unsigned=scheme.unsigned,
            narrow_range=scheme.narrow_range,
            symmetric=scheme.symmetric,
        )

    @property
    def num_bits(self) -> int:
        """Width of the codes."""
        return self.scheme.bits

    @property
    def axis(self) -> int | None:
        """The channel axis, or None."""
        return self.scheme.axis

    @property
    def unsigned(self) -> bool:
        """True for codes from 0."""
        return self.scheme.unsigned

    @property
    def narrow_range(self) -> bool:
        """True when the lowest code is left out."""
        return self.scheme.narrow_range

    @property
    def fake_quant(self) -> bool:
        """Always True."""
        return True

    def __repr__(self) -> str:
        """Return the arguments that make an equal descriptor."""
        return f"QuantDescriptor({self.scheme}, name={self.name!r}, calib_method={self.calib_method!r})"
