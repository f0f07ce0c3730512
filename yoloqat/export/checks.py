"""Checks that an ONNX graph can hold qparams: 8 bits, positive scales, integers in range."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from yoloqat.errors import ExportError
from yoloqat.quant.qparams import TensorQParams


def _check_tensor(what: str, qparams: TensorQParams) -> None:
    scheme = qparams.scheme
    if scheme.bits != 8:
        raise ExportError(
            f"{what} has {scheme.bits} bits",
            expected="8 bits, the only width that engines run",
            hint="calibrate it with 8 bits or leave it float",
        )
    scale = np.asarray(qparams.scale)
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        bad = scale[~(np.isfinite(scale) & (scale > 0))]
        raise ExportError(
            f"{what} has the scale {bad.flat[0]}",
            expected="finite scales above 0",
            hint="calibrate it again",
        )
    low, high = (0, 255) if scheme.unsigned else (-128, 127)
    for kind, values in (("zero-point", qparams.zero_point), ("integer", qparams.integers)):
        if values is not None and np.size(values) and not (low <= np.min(values) and np.max(values) <= high):
            worst = np.min(values) if np.min(values) < low else np.max(values)
            raise ExportError(
                f"{what} has the {kind} {worst}",
                expected=f"{low} to {high}",
                hint="calibrate it again",
            )


def check_activation(name: str, qparams: TensorQParams) -> None:
    """Check that the qparams of an activation can be written as QuantizeLinear and DequantizeLinear.

    Args:
        name: Qualified name of the quantizer.
        qparams: Its qparams.

    Raises:
        ExportError: Another width than 8 bits; a scale that is not positive; a zero-point out of range; one scale per
            channel or a narrow range, which QuantizeLinear does not have.
    """
    _check_tensor(f"quantizer '{name}'", qparams)
    if np.ndim(qparams.scale):
        raise ExportError(
            f"quantizer '{name}' has scales of shape {np.shape(qparams.scale)}",
            expected="one scale for the whole tensor",
            hint="calibrate it per tensor",
        )
    if qparams.scheme.narrow_range:
        raise ExportError(
            f"quantizer '{name}' has narrow_range={qparams.scheme.narrow_range}",
            expected="the full range -128 to 127, which QuantizeLinear clips to",
            hint="calibrate it without narrow_range",
        )


def check_weight(name: str, qparams: TensorQParams) -> None:
    """Check that the qparams of a layer's weight can be written as integers and DequantizeLinear.

    Args:
        name: Qualified name of the layer.
        qparams: The weight's qparams.

    Raises:
        ExportError: Another width than 8 bits; a scale that is not positive; an integer out of range, or no integers.
    """
    _check_tensor(f"weight of layer '{name}'", qparams)
    if qparams.integers is None:
        raise ExportError(
            f"weight of layer '{name}' has the integers {qparams.integers}",
            expected="the quantized values of the weight",
            hint="take the qparams from a calibrated model",
        )


def integer_type(qparams: TensorQParams) -> type[np.int8] | type[np.uint8]:
    """Return the NumPy type of the integers."""
    return np.uint8 if qparams.scheme.unsigned else np.int8


def scale_tensor(name: str, qparams: TensorQParams) -> onnx.TensorProto:
    """Return the scale as a float32 initialiser, shape () or (channels,)."""
    return numpy_helper.from_array(np.asarray(qparams.scale, dtype=np.float32), name)


def zero_point_tensor(name: str, qparams: TensorQParams) -> onnx.TensorProto:
    """Return the zero-point as an initialiser of the integers' type and the scale's shape."""
    points = np.broadcast_to(np.asarray(qparams.zero_point), np.shape(qparams.scale))
    return numpy_helper.from_array(np.array(points, dtype=integer_type(qparams)), name)


def onnx_integer_type(qparams: TensorQParams) -> int:
    """Return the ONNX element type of the integers."""
    return int(TensorProto.UINT8 if qparams.scheme.unsigned else TensorProto.INT8)


def integer_tensor(name: str, qparams: TensorQParams) -> onnx.TensorProto:
    """Return the integers as an 8-bit initialiser in the tensor's own shape."""
    integers = np.ascontiguousarray(qparams.integers, dtype=integer_type(qparams))
    return helper.make_tensor(name, onnx_integer_type(qparams), integers.shape, integers.tobytes(), raw=True)
