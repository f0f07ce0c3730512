"""What TensorRT asks of the zero-points of a QDQ file, read from the file alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from yoloqat.errors import EngineError
from yoloqat.onnx_graph.file import load_onnx
from yoloqat.onnx_graph.graph import constants
from yoloqat.onnx_graph.operators import QUANTIZERS


def shifted_zero_points(model: onnx.ModelProto) -> dict[str, int]:
    """Return the names of the QuantizeLinear and DequantizeLinear nodes whose zero-point is not 0, with that zero-point.

    Args:
        model: A file with Q/DQ nodes, or without.

    Returns:
        Node name (or that of its output where it has none) to the first zero-point of it that is not 0. Zero-points that
        are neither initializers nor constants are not known and left out.
    """
    held = constants(model.graph)
    found: dict[str, int] = {}
    for node in model.graph.node:
        tensor = held.get(node.input[2]) if node.op_type in QUANTIZERS and len(node.input) > 2 else None
        if tensor is not None:
            values = numpy_helper.to_array(tensor).astype(np.float64).ravel()
            if values.any():
                found[node.name or node.output[0]] = int(values[np.flatnonzero(values)[0]])
    return found


def check_tensorrt(path: Path) -> None:
    """Check that TensorRT's INT8 can hold a file: it knows no zero-point but 0.

    Args:
        path: An ONNX file.

    Raises:
        EngineError: A zero-point is not 0, as affine calibration makes them; the first node is named.
        ModelError: The file cannot be read.
    """
    found = shifted_zero_points(load_onnx(path))
    if found:
        name, value = next(iter(found.items()))
        raise EngineError(
            f"'{path}' has {len(found)} zero-points that are not 0, the first {value} at '{name}'",
            expected="zero-points of 0: TensorRT computes INT8 symmetrically",
            hint="calibrate with `target=tensorrt`, or build with `engine=openvino`",
        )
