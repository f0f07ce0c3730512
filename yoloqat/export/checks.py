"""Which numbers an ONNX graph can hold: 8 bits, positive scales, codes in range."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from yoloqat.errors import ExportError
from yoloqat.quant.numbers import TensorNumbers


def _check_tensor(what: str, numbers: TensorNumbers) -> None:
    scheme = numbers.scheme
    if scheme.bits != 8:
        raise ExportError(
            f"{what} has {scheme.bits} bits",
            expected="8 bits, the only width that engines run",
            hint="calibrate it with 8 bits or leave it float",
        )
    scale = np.asarray(numbers.scale)
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        bad = scale[~(np.isfinite(scale) & (scale > 0))]
        raise ExportError(
            f"{what} has the scale {bad.flat[0]}",
            expected="finite scales above 0",
            hint="calibrate it again",
        )
    low, high = (0, 255) if scheme.unsigned else (-128, 127)
    for kind, values in (("zero-point", numbers.zero_point), ("code", numbers.codes)):
        if values is not None and np.size(values) and not (low <= np.min(values) and np.max(values) <= high):
            worst = np.min(values) if np.min(values) < low else np.max(values)
            raise ExportError(
                f"{what} has the {kind} {worst}",
                expected=f"{low} to {high}",
                hint="calibrate it again",
            )


def check_activation(name: str, numbers: TensorNumbers) -> None:
    """Check that the numbers of an activation can be written as QuantizeLinear and DequantizeLinear.

    Args:
        name: Qualified name of the quantizer.
        numbers: Its numbers.

    Raises:
        ExportError: Another width than 8 bits; a scale that is not positive; a zero-point out of range; one scale per
            channel or a narrow range, which QuantizeLinear does not have.
    """
    _check_tensor(f"quantizer '{name}'", numbers)
    if np.ndim(numbers.scale):
        raise ExportError(
            f"quantizer '{name}' has scales of shape {np.shape(numbers.scale)}",
            expected="one scale for the whole tensor",
            hint="calibrate it per tensor",
        )
    if numbers.scheme.narrow_range:
        raise ExportError(
            f"quantizer '{name}' has narrow_range={numbers.scheme.narrow_range}",
            expected="the full range -128 to 127, which QuantizeLinear clips to",
            hint="calibrate it without narrow_range",
        )


def check_weight(name: str, numbers: TensorNumbers) -> None:
    """Check that the numbers of a layer's weight can be written as codes and DequantizeLinear.

    Args:
        name: Qualified name of the layer.
        numbers: The weight's numbers.

    Raises:
        ExportError: Another width than 8 bits; a scale that is not positive; a code out of range, or no codes.
    """
    _check_tensor(f"weight of layer '{name}'", numbers)
    if numbers.codes is None:
        raise ExportError(
            f"weight of layer '{name}' has the codes {numbers.codes}",
            expected="the integer codes of the weight",
            hint="take the numbers from a calibrated model",
        )


def code_type(numbers: TensorNumbers) -> type[np.int8] | type[np.uint8]:
    """Return the NumPy type of the codes."""
    return np.uint8 if numbers.scheme.unsigned else np.int8


def scale_tensor(name: str, numbers: TensorNumbers) -> onnx.TensorProto:
    """Return the scale as a float32 initialiser, shape () or (channels,)."""
    return numpy_helper.from_array(np.asarray(numbers.scale, dtype=np.float32), name)


def zero_point_tensor(name: str, numbers: TensorNumbers) -> onnx.TensorProto:
    """Return the zero-point as an initialiser of the codes' type and the scale's shape."""
    points = np.broadcast_to(np.asarray(numbers.zero_point), np.shape(numbers.scale))
    return numpy_helper.from_array(np.array(points, dtype=code_type(numbers)), name)


def onnx_code_type(numbers: TensorNumbers) -> int:
    """Return the ONNX element type of the codes."""
    return int(TensorProto.UINT8 if numbers.scheme.unsigned else TensorProto.INT8)


def code_tensor(name: str, numbers: TensorNumbers) -> onnx.TensorProto:
    """Return the codes as an 8-bit initialiser in the tensor's own shape."""
    codes = np.ascontiguousarray(numbers.codes, dtype=code_type(numbers))
    return helper.make_tensor(name, onnx_code_type(numbers), codes.shape, codes.tobytes(), raw=True)
