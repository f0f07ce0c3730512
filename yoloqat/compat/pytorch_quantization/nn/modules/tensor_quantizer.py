"""The module that fake-quantizes one tensor, under NVIDIA's names and with NVIDIA's extra stages."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from yoloqat.compat.errors import ArgumentTypeError, ArgumentValueError, StateError, as_runtime_errors
from yoloqat.compat.pytorch_quantization._descriptor import (
    Axis,
    Bits,
    ScaledQuantDescriptor,
    float_array,
    quantizer_scheme,
)
from yoloqat.compat.pytorch_quantization._fp8 import LARGEST, scaled_e4m3
from yoloqat.compat.pytorch_quantization._pickled import own_state
from yoloqat.compat.pytorch_quantization._state import LOG
from yoloqat.compat.pytorch_quantization.calib import HistogramCalibrator, MaxCalibrator
from yoloqat.compat.pytorch_quantization.nn.functional import native_fake_quant
from yoloqat.compat.pytorch_quantization.nn.modules.clip import Clip
from yoloqat.compat.pytorch_quantization.tensor_quant import tensor_quant
from yoloqat.quant import TensorQuantizer as CoreTensorQuantizer
from yoloqat.quant.functional import fake_quant, reduce_amax

__all__ = ["TensorQuantizer"]


class TensorQuantizer(CoreTensorQuantizer):
    """Fake-quantizes a tensor, clips it, or collects its statistics.

    Args:
        quant_desc: Settings; the default is 8 bits per tensor, calibrated by max.
        disabled: Return every tensor unchanged.
        if_quant: Quantize.
        if_clip: Clip to a learned range first; needs a descriptor with ``learn_amax``.
        if_calib: Collect statistics.

    Attributes:
        use_fb_fake_quant: Set it on the class to run torch's own fake quantization, which ONNX exporters know.

    Raises:
        ArgumentValueError: ``if_clip`` without ``learn_amax``.
    """

    use_fb_fake_quant: ClassVar[bool] = False
    _enable_onnx_export: ClassVar[bool] = False

    def __init__(
        self,
        quant_desc: ScaledQuantDescriptor | None = None,
        disabled: bool = False,
        if_quant: bool = True,
        if_clip: bool = False,
        if_calib: bool = False,
    ) -> None:
        quant_desc = ScaledQuantDescriptor() if quant_desc is None else quant_desc
        if not isinstance(quant_desc, ScaledQuantDescriptor):
            raise ArgumentTypeError(
                f"quant_desc is {quant_desc!r}", expected="a QuantDescriptor", hint="make one of your settings"
            )
        super().__init__(
            quant_desc.scheme, name=quant_desc.name or "", disabled=disabled, if_quant=if_quant, if_calib=if_calib
        )
        self._num_bits, self._axis = quant_desc.num_bits, quant_desc.axis
        if quant_desc.amax is not None:
            self.amax = quant_desc.amax
        self.register_buffer("_pre_quant_scale", None)
        self._fake_quant = quant_desc.fake_quant
        self._scale_amax = quant_desc.scale_amax
        self._learn_amax = quant_desc.learn_amax
        self._scale: Tensor | float | None = 1.0 if self._fake_quant else None
        self._if_clip = False
        kind = HistogramCalibrator if quant_desc.calib_method == "histogram" else MaxCalibrator
        self._calibrator: Any = kind(self._num_bits, self._axis, self.scheme.unsigned)
        if self._learn_amax:
            init = 1.0 if quant_desc.amax is None else torch.from_numpy(quant_desc.amax)
            self.clip = Clip(-init, init, learn_min=True, learn_max=True)
        if if_clip or self._learn_amax:
            self.enable_clip()

    def __getattr__(self, name: str) -> Any:
        """Let ``hasattr(quantizer, "_amax")`` be False while the range is dynamic, as scripts expect; so for the scale."""
        value = super().__getattr__(name)
        if name in ("_amax", "_pre_quant_scale") and value is None:
            raise AttributeError(f"quantizer '{self.name}' has no {name} yet")
        return value

    def __delattr__(self, name: str) -> None:
        """Take ``del quantizer._amax`` as a return to the dynamic range."""
        if name == "_amax":
            self.reset_amax()
        else:
            super().__delattr__(name)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Load also the pickled state of NVIDIA's own class."""
        state = state if "scheme" in state else own_state(state)
        before = {"_num_bits": state["scheme"].bits, "_axis": state["scheme"].axis}  # of pickles without these
        super().__setstate__(before | state)  # type: ignore[no-untyped-call]
        self._buffers.setdefault("_pre_quant_scale", None)

    def _set_scheme(self, num_bits: Bits, unsigned: bool, narrow_range: bool) -> None:
        self.scheme = quantizer_scheme(num_bits, self._axis, unsigned=unsigned, narrow_range=narrow_range)
        self._num_bits = num_bits

    @property
    def num_bits(self) -> Bits:
        """Bit width, or (4, 3) for FP8."""
        return self._num_bits

    @num_bits.setter
    def num_bits(self, value: Bits) -> None:
        self._set_scheme(value, self.unsigned, self.narrow_range)

    @property
    def maxbound(self) -> float:
        """The value that amax maps to: qmax, or the largest number of FP8."""
        return LARGEST if isinstance(self._num_bits, tuple) else self.scheme.high

    @property
    def unsigned(self) -> bool:
        """True for unsigned integers."""
        return self.scheme.unsigned

    @unsigned.setter
    def unsigned(self, value: bool) -> None:
        self._set_scheme(self._num_bits, value, self.narrow_range)

    @property
    def narrow_range(self) -> bool:
        """True when qmin is left out."""
        return self.scheme.narrow_range

    @narrow_range.setter
    def narrow_range(self, value: bool) -> None:
        self._set_scheme(self._num_bits, self.unsigned, value)

    @property
    def axis(self) -> Axis:
        """The channel axis or axes, or None."""
        return self._axis

    # scripts reach for the names with an underscore too
    _unsigned, _narrow_range = unsigned, narrow_range

    @property
    def amax(self) -> Tensor | None:
        """The largest value represented, float32, broadcastable to the tensor; None: dynamic."""
        return self._buffers.get("_amax")

    @amax.setter
    def amax(self, value: Any) -> None:
        """Set amax; None makes the range dynamic again.

        Raises:
            ArgumentTypeError: It is no number, sequence, array or tensor.
            StateError: It has another shape than the amax that is there, or is negative, NaN or infinite.
        """
        before, value = self.amax, value if isinstance(value, Tensor) else float_array(value)
        # a single value says the same in any number of axes; MaxCalibrator gives it none
        single = before is not None and value is not None and before.numel() == math.prod(value.shape) == 1
        if before is not None and value is not None and before.shape != value.shape and not single:
            raise StateError(
                f"amax of '{self.name}' is to have shape {tuple(value.shape)}",
                expected=f"the shape that it has, {tuple(before.shape)}",
                hint="`del quantizer._amax` first",
            )
        self._set_amax(value)

    def _set_amax(self, value: Any) -> None:
        with as_runtime_errors():
            CoreTensorQuantizer.amax.__set__(self, value)  # type: ignore[attr-defined]

    @property
    def pre_quant_scale(self) -> Tensor | None:
        """Factor on the input, applied before anything else, also where the quantizer is disabled; None: none."""
        return self._buffers.get("_pre_quant_scale")

    @pre_quant_scale.setter
    def pre_quant_scale(self, value: Any) -> None:
        """Set the factor, a number or what broadcasts to the input; None takes it away.

        Raises:
            ArgumentTypeError: It is no number, sequence, array or tensor.
            StateError: It has another shape than the factor that is there.
        """
        before = self.pre_quant_scale
        array = value if isinstance(value, Tensor) or value is None else torch.from_numpy(float_array(value))
        if before is not None and array is not None and before.shape != array.shape:
            raise StateError(
                f"pre_quant_scale of '{self.name}' is to have shape {tuple(array.shape)}",
                expected=f"the shape that it has, {tuple(before.shape)}",
                hint="set it to None first",
            )
        device = None if before is None else before.device
        self._pre_quant_scale = None if array is None else array.detach().to(device, torch.float32, copy=True)

    @property
    def fake_quant(self) -> bool:
        """False when the quantizer returns integers instead of fake-quantized values."""
        return self._fake_quant

    @property
    def scale(self) -> Tensor | float | None:
        """Codes per unit of the last tensor when ``fake_quant`` is False; None before one, 1 otherwise."""
        return self._scale

    @property
    def step_size(self) -> Tensor | None:
        """Real value of one integer step; None while the range is dynamic."""
        return None if self.amax is None else self.amax / self.maxbound

    def enable_calib(self) -> None:
        """Collect statistics.

        Raises:
            ArgumentValueError: The calibrator was taken away.
        """
        if getattr(self, "_calibrator", None) is None:
            raise ArgumentValueError(
                f"the calibrator of quantizer '{self.name}' is None",
                expected="a calibrator",
                hint="set _calibrator, or leave the quantizer out of calibration",
            )
        super().enable_calib()

    def enable_clip(self) -> None:
        """Clip to the learned range.

        Raises:
            ArgumentValueError: The descriptor had no ``learn_amax``.
        """
        if not self._learn_amax:
            raise ArgumentValueError(
                f"learn_amax is {self._learn_amax}", expected="True where a range is learned", hint="set it"
            )
        self._switch_clip(True)

    def disable_clip(self) -> None:
        """Stop clipping and learning the range."""
        if self._learn_amax:
            self._switch_clip(False)

    def _switch_clip(self, on: bool) -> None:
        self.clip.requires_grad_(on)
        self._if_clip = on

    def init_learn_amax(self) -> None:
        """Begin to learn the range from the calibrated amax; per channel, from its maximum.

        Raises:
            StateError: The descriptor had no ``learn_amax``, or there is no amax.
        """
        if not self._learn_amax or self.amax is None:
            raise StateError(
                f"learn_amax is {self._learn_amax} and amax is {self.amax}",
                expected="learn_amax=True and a calibrated amax",
                hint="calibrate a quantizer made with learn_amax=True",
            )
        with torch.no_grad():
            self.clip.clip_value_min.copy_(-self.amax.max())
            self.clip.clip_value_max.copy_(self.amax.max())

    def load_calib_amax(self, *args: Any, **kwargs: Any) -> None:
        """Take amax from the calibrator.

        Args:
            *args: For the calibrator's ``compute_amax``, which for histograms takes the method.
            **kwargs: The same, and ``strict``: when False, a calibrator without data sets amax to NaN instead of raising.

        Raises:
            StateError: Nothing was collected.
        """
        strict = kwargs.pop("strict", True)
        calibrator: Any = getattr(self, "_calibrator", None)
        amax = None if calibrator is None else calibrator.compute_amax(*args, **kwargs)
        if amax is not None:
            self._set_amax(amax)
        elif strict:
            raise StateError(
                f"quantizer '{self.name}' collected nothing",
                expected="at least one batch",
                hint="run images through the model while it calibrates, or pass strict=False",
            )
        else:
            LOG.warning("quantizer '%s' collected nothing; its amax is NaN", self.name)
            # NVIDIA's answer, on which scripts that call `_amax.to` rely; the setter would refuse it
            self._amax = torch.tensor(math.nan)

    def _get_amax(self, inputs: Tensor) -> Tensor:
        """Return the range that ``inputs`` are quantized by."""
        if self._learn_amax:
            low, high = self.clip.clip_value_min, self.clip.clip_value_max
            return torch.maximum(-low, high).detach()
        with as_runtime_errors():
            amax = self.amax if self.amax is not None else reduce_amax(inputs, axis=self._axis)
        amax = amax.detach().to(amax.dtype if amax.dtype == torch.double else torch.float32)
        return amax if self._scale_amax is None else amax * self._scale_amax

    @property
    def native(self) -> bool:
        """Return whether to run torch's own operators, which an ONNX exporter needs."""
        return self.use_fb_fake_quant or self._enable_onnx_export

    def _quantize(self, inputs: Tensor) -> Tensor:
        if self._enable_onnx_export and self.amax is None and not self._learn_amax:
            raise StateError(
                f"quantizer '{self.name}' has no amax in an export",
                expected="a calibrated range",
                hint="calibrate it first",
            )
        amax, scheme = self._get_amax(inputs), self.scheme
        if isinstance(self._num_bits, tuple):
            if self.native:
                raise StateError(
                    f"num_bits of quantizer '{self.name}' is {self._num_bits} in an export",
                    expected="integers",
                    hint="export with a number of bits",
                )
            return scaled_e4m3(inputs, amax, *self._num_bits)
        if not self._fake_quant:
            integers, self._scale = tensor_quant(inputs, amax, scheme.bits, scheme.unsigned, scheme.narrow_range)
            return integers
        return (native_fake_quant if self.native else fake_quant)(inputs, amax, scheme)

    def forward(self, inputs: Tensor) -> Tensor:
        """Collect statistics of ``inputs`` and return it scaled, clipped and quantized, as switched on.

        Raises:
            StateError: Calibration met what it cannot use, or an export a range that is not known yet.
        """
        if self.pre_quant_scale is not None:
            inputs = inputs * self.pre_quant_scale.to(inputs.dtype)
        if self._disabled:
            return inputs
        if self._if_calib:
            with as_runtime_errors():
                self._collect(inputs)
        if self._if_clip or (self._learn_amax and self._if_quant):
            inputs = self.clip(inputs)
        return self._quantize(inputs) if self._if_quant else inputs

    def qparams(self) -> tuple[Tensor, Tensor] | None:
        """Return scale and zero-point in the form engines use; None while the range is dynamic.

        Raises:
            StateError: No engine can represent the settings: FP8, integer output, several channel axes, a learned or scaled
                range, or a factor on the input.
        """
        several = isinstance(self._axis, tuple) and len(self._axis) > 1
        for name, value, wrong in (
            ("num_bits", self._num_bits, isinstance(self._num_bits, tuple)),
            ("fake_quant", self._fake_quant, not self._fake_quant),
            ("axis", self._axis, several),
            ("learn_amax", self._learn_amax, self._learn_amax),
            ("scale_amax", self._scale_amax, self._scale_amax is not None),
            ("pre_quant_scale", "set", self.pre_quant_scale is not None),
        ):
            if wrong:
                raise StateError(
                    f"{name} of quantizer '{self.name}' is {value}",
                    expected="integers by a fixed amax, with one channel axis at most and no factor on the input",
                    hint="describe it so, or leave the layer float",
                )
        return super().qparams()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        """Make room for a stored factor on the input too."""
        stored = state_dict.get(f"{prefix}_pre_quant_scale")
        if stored is not None:
            like = self.pre_quant_scale
            self._pre_quant_scale = torch.empty_like(stored, device=None if like is None else like.device)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
