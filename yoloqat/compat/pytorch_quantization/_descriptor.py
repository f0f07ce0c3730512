"""What a quantizer is told when it is made, with the arguments and answers of NVIDIA's class."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from yoloqat.compat.errors import ArgumentTypeError
from yoloqat.quant import QuantDescriptor as CoreDescriptor

_DEFAULTS: dict[str, Any] = {
    "fake_quant": True,
    "axis": None,
    "amax": None,
    "learn_amax": False,
    "scale_amax": None,
    "calib_method": "max",
    "unsigned": False,
    "narrow_range": False,
}


class ScaledQuantDescriptor:
    """Describes how one tensor is quantized (NVIDIA's ``ScaledQuantDescriptor``).

    Args:
        num_bits: Width of the codes, 2 to 16.
        name: Name of the tensor, for messages.
        **kwargs: ``fake_quant`` (False: codes instead of fake-quantized values), ``axis`` (one channel axis, or None),
            ``amax`` (number, sequence, array or tensor), ``learn_amax``, ``scale_amax`` (factor on amax), ``calib_method``
            (``"max"`` or ``"histogram"``), ``unsigned``, ``narrow_range``.

    Raises:
        ArgumentTypeError: An argument is unknown or of the wrong kind.
        ConfigError: A value is out of range, or the axes are more than one.
    """

    def __init__(self, num_bits: int = 8, name: str | None = None, **kwargs: Any) -> None:
        unknown = sorted(set(kwargs) - set(_DEFAULTS))
        if unknown:
            raise ArgumentTypeError(
                f"argument '{unknown[0]}' is unknown", expected=f"one of {', '.join(_DEFAULTS)}", mend="leave it out"
            )
        if name is not None and not isinstance(name, str):
            raise ArgumentTypeError(f"name is {name!r}", expected="a text or None", mend="write it as text")
        values = _DEFAULTS | kwargs
        self._fake_quant = bool(values.pop("fake_quant"))
        self._learn_amax = bool(values.pop("learn_amax"))
        self._scale_amax: float | None = values.pop("scale_amax")
        if self._learn_amax and values["axis"] is not None:
            raise ArgumentTypeError(
                f"axis is {values['axis']!r} with learn_amax=True", expected="None", mend="leave one of the two out"
            )
        self._amax = _float_array(values.pop("amax"))
        # codes without sign have no lowest one to leave out; NVIDIA lets both be asked for
        values["narrow_range"] = values["narrow_range"] and not values["unsigned"]
        self._core = CoreDescriptor(num_bits, name, amax=self._amax, **values)

    @property
    def core(self) -> CoreDescriptor:
        """The same description as the core takes it."""
        return self._core

    @property
    def num_bits(self) -> int:
        """Width of the codes."""
        return self._core.num_bits

    @property
    def name(self) -> str | None:
        """Name of the tensor."""
        return self._core.name

    @property
    def fake_quant(self) -> bool:
        """False when the quantizer gives codes."""
        return self._fake_quant

    @property
    def axis(self) -> int | None:
        """The channel axis, or None."""
        return self._core.axis

    @property
    def amax(self) -> NDArray[np.float32] | None:
        """The range known beforehand."""
        return self._amax

    @property
    def learn_amax(self) -> bool:
        """True when the range is a parameter."""
        return self._learn_amax

    @property
    def scale_amax(self) -> float | None:
        """Factor on amax."""
        return self._scale_amax

    @property
    def calib_method(self) -> str:
        """The kind of calibrator."""
        return self._core.calib_method

    @property
    def unsigned(self) -> bool:
        """True for codes from 0."""
        return self._core.unsigned

    @property
    def narrow_range(self) -> bool:
        """True when the lowest code is left out."""
        return self._core.narrow_range

    def dict(self) -> dict[str, Any]:
        """Return the arguments that make an equal descriptor; only ``num_bits``, ``name`` and what is not the default."""
        values = {key: getattr(self, key) for key in _DEFAULTS if key != "amax"}
        given = {key: value for key, value in values.items() if value != _DEFAULTS[key]}
        if self._amax is not None:
            given["amax"] = self._amax.tolist()
        return {"num_bits": self.num_bits, "name": self.name, **given}

    def to_yaml(self) -> str:
        """Return :meth:`dict` as YAML."""
        return str(yaml.safe_dump(self.dict(), width=120))

    @classmethod
    def from_yaml(cls, yaml_str: str) -> ScaledQuantDescriptor:
        """Make a descriptor from what :meth:`to_yaml` returned, or NVIDIA's method, which writes the axis as a list."""
        values = yaml.safe_load(yaml_str)
        if isinstance(values.get("axis"), list):
            values["axis"] = tuple(values["axis"])
        return cls(**values)

    def __eq__(self, other: object) -> bool:
        """Return whether the other is made by the same arguments."""
        return isinstance(other, ScaledQuantDescriptor) and self.dict() == other.dict()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Return the arguments that make an equal descriptor."""
        return f"QuantDescriptor({', '.join(f'{key}={value!r}' for key, value in self.dict().items())})"


def _float_array(amax: Any) -> NDArray[np.float32] | None:
    if amax is None:
        return None
    if isinstance(amax, torch.Tensor):
        amax = amax.detach().cpu().numpy()
    if isinstance(amax, bool | str) or not isinstance(amax, int | float | list | tuple | np.ndarray | np.generic):
        raise ArgumentTypeError(
            f"amax is {amax!r}", expected="a number, sequence, array or tensor", mend="pass one of these"
        )
    return np.array(amax, dtype=np.float32)
