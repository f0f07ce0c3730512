"""NVIDIA's ``QuantDescriptor``: the settings of a quantizer."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from yoloqat.compat.errors import ArgumentTypeError, ArgumentValueError
from yoloqat.compat.pytorch_quantization._fp8 import E4M3
from yoloqat.config import QuantScheme

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

Axis = int | tuple[int, ...] | None
Bits = int | tuple[int, int]


class ScaledQuantDescriptor:
    """Describes how one tensor is quantized (NVIDIA's ``ScaledQuantDescriptor``).

    Args:
        num_bits: Bit width, 2 to 16, or (4, 3) for FP8 E4M3.
        name: Name of the tensor, for messages.
        **kwargs: ``fake_quant`` (False: integers instead of fake-quantized values), ``axis`` (the axis or axes with an amax of
            their own, or None), ``amax`` (number, sequence, array or tensor), ``learn_amax``, ``scale_amax`` (factor on
            amax), ``calib_method`` (``"max"`` or ``"histogram"``), ``unsigned``, ``narrow_range``.

    Raises:
        ArgumentTypeError: An argument is unknown or of the wrong kind.
        ArgumentValueError: A value is out of range.
    """

    def __init__(self, num_bits: Bits = 8, name: str | None = None, **kwargs: Any) -> None:
        unknown = sorted(set(kwargs) - set(_DEFAULTS))
        if unknown:
            raise ArgumentTypeError(
                f"argument '{unknown[0]}' is unknown", expected=f"one of {', '.join(_DEFAULTS)}", hint="leave it out"
            )
        if name is not None and not isinstance(name, str):
            raise ArgumentTypeError(f"name is {name!r}", expected="a text or None", hint="write it as text")
        values = _DEFAULTS | kwargs
        self._num_bits = num_bits
        self._name = name
        self._fake_quant = bool(values["fake_quant"])
        self._axis = checked_axis(values["axis"])
        self._learn_amax = bool(values["learn_amax"])
        self._scale_amax: float | None = values["scale_amax"]
        self._unsigned = bool(values["unsigned"])
        # unsigned integers have no negative qmin to leave out; NVIDIA accepts both settings together
        self._narrow_range = bool(values["narrow_range"]) and not self._unsigned
        self._calib_method: str = values["calib_method"]
        if self._learn_amax and self._axis is not None:
            raise ArgumentTypeError(
                f"axis is {self._axis!r} with learn_amax=True", expected="None", hint="leave one of the two out"
            )
        if self._calib_method not in ("max", "histogram"):
            raise ArgumentValueError(
                f"calib_method is {self._calib_method!r}", expected="'max' or 'histogram'", hint="choose one of the two"
            )
        if self._scale_amax is not None and not isinstance(self._scale_amax, int | float):
            raise ArgumentTypeError(
                f"scale_amax is {self._scale_amax!r}", expected="a number or None", hint="write e.g. 0.9"
            )
        self._amax = float_array(values["amax"])
        self.scheme  # noqa: B018 - checks num_bits

    @property
    def scheme(self) -> QuantScheme:
        """The core's scheme for these settings, as far as it can express them; see :func:`quantizer_scheme`."""
        return quantizer_scheme(self._num_bits, self._axis, unsigned=self._unsigned, narrow_range=self._narrow_range)

    @property
    def num_bits(self) -> Bits:
        """Bit width, or (4, 3)."""
        return self._num_bits

    @property
    def name(self) -> str | None:
        """Name of the tensor."""
        return self._name

    @property
    def fake_quant(self) -> bool:
        """False when the quantizer returns integers."""
        return self._fake_quant

    @property
    def axis(self) -> Axis:
        """The channel axis or axes, as given, or None."""
        return self._axis

    @property
    def amax(self) -> NDArray[np.float32] | None:
        """The fixed range, or None."""
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
        return self._calib_method

    @property
    def unsigned(self) -> bool:
        """True for unsigned integers."""
        return self._unsigned

    @property
    def narrow_range(self) -> bool:
        """True when qmin is left out."""
        return self._narrow_range

    def dict(self) -> dict[str, Any]:
        """Return the arguments that make an equal descriptor; only ``num_bits``, ``name`` and what is not the default."""
        values = {key: getattr(self, key) for key in _DEFAULTS if key != "amax"}
        given = {key: value for key, value in values.items() if value != _DEFAULTS[key]}
        if self._amax is not None:
            given["amax"] = self._amax.tolist()
        return {"num_bits": self.num_bits, "name": self.name, **given}

    def to_yaml(self) -> str:
        """Return :meth:`dict` as YAML, with lists for tuples."""
        values = {key: list(value) if isinstance(value, tuple) else value for key, value in self.dict().items()}
        return str(yaml.safe_dump(values, width=120))

    @classmethod
    def from_yaml(cls, yaml_str: str) -> ScaledQuantDescriptor:
        """Make a descriptor from what :meth:`to_yaml` returned, or NVIDIA's method.

        Raises:
            ArgumentTypeError: The text is no mapping of arguments.
            ArgumentValueError: The text is no YAML.
        """
        try:
            values = yaml.safe_load(yaml_str)
        except yaml.YAMLError as error:
            raise ArgumentValueError(
                f"the text of a descriptor is {yaml_str[:40]!r}", expected="YAML", hint="write it with to_yaml"
            ) from error
        if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
            raise ArgumentTypeError(
                f"the text of a descriptor is {yaml_str[:40]!r}", expected="a mapping", hint="write it with to_yaml"
            )
        for key in {"axis", "num_bits"} & values.keys():
            values[key] = tuple(values[key]) if isinstance(values[key], list) else values[key]
        return cls(**values)

    def __eq__(self, other: object) -> bool:
        """Return whether the other is made by the same arguments."""
        return isinstance(other, ScaledQuantDescriptor) and self.dict() == other.dict()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Return the arguments that make an equal descriptor."""
        return f"QuantDescriptor({', '.join(f'{key}={value!r}' for key, value in self.dict().items())})"


def integer_scheme(num_bits: Any, **settings: bool) -> QuantScheme:
    """Return the core's scheme for integers; ``narrow_range`` has effect only on signed integers.

    Raises:
        ArgumentTypeError: ``num_bits`` is no whole number.
        ArgumentValueError: It is not from 2 to 16.
    """
    if isinstance(num_bits, bool) or not isinstance(num_bits, int):
        raise ArgumentTypeError(f"num_bits is {num_bits!r}", expected="a whole number", hint="write e.g. 8")
    if not 2 <= num_bits <= 16:
        raise ArgumentValueError(f"num_bits is {num_bits}", expected="2 to 16", hint="write e.g. 8")
    settings = {name: bool(value) for name, value in settings.items()}
    if settings.get("unsigned"):
        settings["narrow_range"] = False
    return QuantScheme(bits=num_bits, **settings)


def quantizer_scheme(num_bits: Any, axis: Axis, *, unsigned: bool, narrow_range: bool) -> QuantScheme:
    """Return the core's scheme of a quantizer; of FP8 it holds the sign alone, of several axes none.

    Raises:
        ArgumentTypeError: ``num_bits`` is neither a whole number nor (4, 3).
        ArgumentValueError: It is not from 2 to 16.
    """
    bits = 8 if num_bits == E4M3 else num_bits
    if isinstance(bits, tuple):
        raise ArgumentTypeError(f"num_bits is {num_bits!r}", expected=f"a whole number or {E4M3}", hint="write e.g. 8")
    scheme = integer_scheme(bits, unsigned=unsigned, narrow_range=narrow_range)
    single = axis[0] if isinstance(axis, tuple) and len(axis) == 1 else axis
    if isinstance(single, int) and 0 <= single <= 7:
        return QuantScheme(scheme.bits, axis=single, unsigned=scheme.unsigned, narrow_range=scheme.narrow_range)
    return scheme


def checked_axis(axis: Any) -> Axis:
    """Return the axis or axes, with a tuple for a list.

    Raises:
        ArgumentTypeError: It is neither None, nor a whole number, nor several of these.
    """
    several = tuple(axis) if isinstance(axis, tuple | list) else None
    for one in (axis,) if several is None else several:
        if isinstance(one, bool) or not (isinstance(one, int) or (one is None and several is None)):
            raise ArgumentTypeError(
                f"axis is {axis!r}", expected="None, a whole number or several of these", hint="write e.g. axis=0"
            )
    return axis if several is None else several


def float_array(amax: Any) -> NDArray[np.float32] | None:
    """Return ``amax`` as a float32 array; None stays None.

    Raises:
        ArgumentTypeError: It is no number, sequence, array or tensor of numbers.
    """
    if amax is None:
        return None
    if isinstance(amax, torch.Tensor):
        amax = amax.detach().cpu().numpy()
    try:
        if isinstance(amax, bool | str) or not isinstance(amax, int | float | list | tuple | np.ndarray | np.generic):
            raise TypeError
        return np.array(amax, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ArgumentTypeError(
            f"amax is {amax!r}", expected="a number, sequence, array or tensor", hint="pass one of these"
        ) from error
