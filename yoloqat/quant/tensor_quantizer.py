"""The module that fake-quantizes one tensor."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor, nn

from yoloqat.config import MethodSpec, QuantScheme
from yoloqat.errors import CalibrationError, ConfigError
from yoloqat.quant.calib import Histogram, HistogramCalibrator, MaxCalibrator
from yoloqat.quant.functional import affine_qparams, fake_quant, fake_quant_affine, inv_scale, reduce_amax

DEAD_SCALE = 2.0**20
"""Scale of a tensor that was all zeros during calibration."""

PLACEHOLDER_OP = "yoloqat::quantizer"
"""The operator that stands in for a quantizer in a traced graph; see :mod:`yoloqat.quant.graph.placeholders`."""


class TensorQuantizer(nn.Module):
    """Fake-quantizes a tensor, collects its statistics, or returns it unchanged.

    Without an amax it takes the range of each tensor it reads (dynamic quantization), as NVIDIA's package does.

    Args:
        scheme: Bits, symmetry and axis; None is 8 bits, signed, symmetric, per tensor.
        name: Qualified name of the quantizer, for messages.
        calib_method: ``"max"`` or ``"histogram"``: what the calibrator collects.
        disabled: Return every tensor unchanged.
        if_quant: Fake-quantize.
        if_calib: Collect statistics.

    Raises:
        ConfigError: ``calib_method`` names no calibrator, or the scheme has one scale per channel and is affine or calibrated
            by histogram.
    """

    _amax: Tensor | None
    _low: Tensor | None
    _placeholder: str | None = None
    _seen: list[weakref.ref[Tensor]] | None = None

    def __init__(
        self,
        scheme: QuantScheme | None = None,
        *,
        name: str = "",
        calib_method: str = "max",
        disabled: bool = False,
        if_quant: bool = True,
        if_calib: bool = False,
    ) -> None:
        super().__init__()
        self.scheme = scheme or QuantScheme()
        self.name = name
        _check_calibrator(self.scheme, calib_method)
        self._disabled = disabled
        self._if_quant = if_quant
        self._if_calib = if_calib
        self.register_buffer("_amax", None)
        self.register_buffer("_low", None)
        self._calibrator: HistogramCalibrator | MaxCalibrator
        if calib_method == "histogram":
            self._calibrator = HistogramCalibrator(self.scheme.bits, unsigned=self.scheme.unsigned)
        else:
            self._calibrator = MaxCalibrator(axis=self.scheme.axis)

    @property
    def amax(self) -> Tensor | None:
        """The upper end of the range, float32, shape () or broadcastable to the tensor; None: dynamic."""
        return self._buffers.get("_amax")

    @amax.setter
    def amax(self, value: Tensor | float | None) -> None:
        """Set the range's upper end; with an affine scheme the lower end becomes its negative.

        Raises:
            CalibrationError: A value is negative, NaN or infinite.
        """
        self._amax = None if value is None else self._checked(value, "amax")
        self._low = None if self.amax is None or self.scheme.symmetric else -self.amax

    @property
    def low(self) -> Tensor | None:
        """The lower end of an affine range, float32, shape (); None for symmetric schemes."""
        return self._low

    def set_range(self, low: float, high: float) -> None:
        """Set both ends of an affine range.

        Raises:
            CalibrationError: The scheme is symmetric, an end is not finite, or low is above high.
        """
        if self.scheme.symmetric or not low <= high:
            kind = "a symmetric" if self.scheme.symmetric else "an affine"
            raise CalibrationError(
                f"range of '{self.name}' is [{low}, {high}] with {kind} scheme",
                expected="low <= high on an affine scheme",
                hint="set amax instead or swap with an affine scheme",
            )
        ends = self._checked(max(-low, 0.0), "low end"), self._checked(max(high, 0.0), "high end")
        self._low, self._amax = -ends[0], ends[1]

    def _checked(self, value: Tensor | float, what: str) -> Tensor:
        with torch.inference_mode(False), torch.no_grad():  # an inference tensor could not be trained through later
            device = self.amax.device if self.amax is not None else None
            tensor = torch.as_tensor(value, dtype=torch.float32, device=device).detach().clone()
        if not bool((torch.isfinite(tensor) & (tensor >= 0)).all()):
            worst = tensor.flatten()[~(torch.isfinite(tensor) & (tensor >= 0)).flatten()][0]
            raise CalibrationError(
                f"{what} of '{self.name}' is {float(worst)}",
                expected="a finite number of at least 0",
                hint="calibrate on other images or leave the layer float",
            )
        return tensor

    def reset_amax(self) -> None:
        """Remove the range, so that quantization is dynamic again."""
        self._amax = None
        self._low = None

    def load_calib_amax(self, method: str | MethodSpec | None = None, *, percentile: float = 99.99) -> None:
        """Set the range from the calibrator's statistics.

        An affine range is the observed one, cut to [-amax, amax] of the method.

        Args:
            method: Method of a histogram calibrator; None takes its default. A max calibrator takes None or ``"max"``.
            percentile: For the method ``"percentile"``.

        Raises:
            CalibrationError: The calibrator has no data, or is a max calibrator and the method is another.
        """
        if isinstance(self._calibrator, MaxCalibrator):
            if method is not None and str(method) != "max":
                raise CalibrationError(
                    f"'{self.name}' was asked for {str(method)!r} but collected only maxima",
                    expected="method 'max'",
                    hint="make it with calib_method='histogram'",
                )
            amax = self._calibrator.compute_amax()
        else:
            amax = self._calibrator.compute_amax(method or "entropy", percentile=percentile)
        if amax is None:
            raise CalibrationError(
                f"quantizer '{self.name}' collected nothing",
                expected="at least one batch",
                hint="run images through the model while it calibrates, or leave the layer float",
            )
        histogram = self._calibrator.histogram() if isinstance(self._calibrator, HistogramCalibrator) else None
        if self.scheme.symmetric or histogram is None:
            self.amax = amax
        else:
            self._set_affine(histogram, float(amax))

    def load_histogram(self, histogram: Histogram, method: MethodSpec) -> None:
        """Set the range from a collected histogram.

        Args:
            histogram: Statistics of the tensor that this quantizer reads.
            method: Method that finds amax.
        """
        # with a zero-point, a range mostly on one side of 0 has nearly all its levels on that side
        one_sided = not self.scheme.symmetric and -histogram.low <= histogram.high / 2
        amax = histogram.compute_amax(method, bits=self.scheme.bits, unsigned=self.scheme.unsigned or one_sided)
        if self.scheme.symmetric:
            self.amax = amax
        else:
            self._set_affine(histogram, amax)

    def _set_affine(self, histogram: Histogram, limit: float) -> None:
        self.set_range(max(histogram.low, -limit), min(histogram.high, limit))

    def disable(self) -> None:
        """Return every tensor unchanged."""
        self._disabled = True

    def enable(self) -> None:
        """Undo :meth:`disable`."""
        self._disabled = False

    def disable_quant(self) -> None:
        """Stop fake-quantizing."""
        self._if_quant = False

    def enable_quant(self) -> None:
        """Fake-quantize."""
        self._if_quant = True

    def disable_calib(self) -> None:
        """Stop collecting statistics."""
        self._if_calib = False

    def enable_calib(self) -> None:
        """Collect statistics."""
        self._if_calib = True

    def qparams(self) -> tuple[Tensor, Tensor] | None:
        """Return scale and zero-point in the form engines use, float32; None while the range is dynamic."""
        amax = self.amax
        if amax is None:
            return None
        if not self.scheme.symmetric and self._low is not None:
            return affine_qparams(self._low, amax, self.scheme)
        inverse = inv_scale(amax, self.scheme)
        # fake quantization maps every value to 0 where amax is 0: an engine does the same when the scale is large;
        # the integers of an all-zero weight channel are 0 at any scale
        dead = torch.full_like(inverse, DEAD_SCALE if self.scheme.axis is None else 1.0)
        scale = torch.where(inverse == 0, dead, amax / self.scheme.high)
        return scale, torch.zeros_like(scale)

    def _collect(self, x: Tensor) -> None:
        if self._seen is not None:
            # readers of one tensor share this quantizer: count the tensor once
            if any(seen() is x for seen in self._seen):
                return
            self._seen.append(weakref.ref(x))
        try:
            self._calibrator.collect(x)
        except CalibrationError as error:
            raise CalibrationError(f"'{self.name}': {error.what}", expected=error.expected, hint=error.hint) from error

    def forward(self, x: Tensor) -> Tensor:
        """Collect statistics of ``x`` and fake-quantize it, each where it is switched on."""
        if self._disabled:
            return x
        if self._placeholder is not None:
            stand_in: Tensor = torch.ops.yoloqat.quantizer(x, self._placeholder)
            return stand_in
        if self._if_calib:
            self._collect(x)
        if not self._if_quant:
            return x
        if self.scheme.symmetric:
            amax = self.amax if self.amax is not None else reduce_amax(x, axis=self.scheme.axis)
            return fake_quant(x, amax, self.scheme)
        low, high = (self._low, self.amax) if self._low is not None and self.amax is not None else x.detach().aminmax()
        return fake_quant_affine(x, low, high, self.scheme)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        """Allocate the buffers of a stored range: torch reports keys of buffers that are None as unexpected."""
        for name in ("_amax", "_low"):
            stored = state_dict.get(prefix + name)
            if stored is not None:
                like = self._buffers.get(name)
                setattr(self, name, torch.empty_like(stored, device=None if like is None else like.device))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def extra_repr(self) -> str:
        """Return the scheme, the range and the switches."""
        amax = self.amax
        text = "dynamic" if amax is None else f"amax={float(amax.max()):.4g}"
        switches = "disabled" if self._disabled else f"quant={self._if_quant}, calib={self._if_calib}"
        return f"{self.scheme.bits} bits, axis={self.scheme.axis}, {text}, {switches}"


def _check_calibrator(scheme: QuantScheme, calib_method: str) -> None:
    if calib_method not in ("max", "histogram"):
        raise ConfigError(
            f"calib_method is {calib_method!r}", expected="'max' or 'histogram'", hint="choose one of the two"
        )
    if scheme.axis is not None and (calib_method == "histogram" or not scheme.symmetric):
        raise ConfigError(
            f"axis is {scheme.axis!r} with calib_method={calib_method!r} and symmetric={scheme.symmetric!r}",
            expected="a symmetric scheme calibrated by max where there is a scale per channel",
            hint="leave the axis out, or use calib_method='max' and symmetric=True",
        )
