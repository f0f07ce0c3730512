"""What must hold of a graph before any engine or pass reads it: they crash, hang or compute nonsense on what does not."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from yoloqat.errors import ModelError
from yoloqat.onnx_graph.graph import constants, copy_of
from yoloqat.onnx_graph.operators import DEQUANTIZE, LAYER_OPS, QUANTIZERS, opset_of

_EXPECTED, _HINT = "a valid ONNX graph", "export the model again"


def check_graph(model: onnx.ModelProto, source: str) -> None:
    """Check that a graph is valid: known operators, nodes in order, whole tensors and usable scales.

    Shapes are left to the engines: what a file records of them may differ from what its operators give.

    Args:
        model: The model; its external data is loaded.
        source: What errors name.

    Raises:
        ModelError: An operator is unknown, or has too few or too many inputs; a node reads what no node before it makes, as in
            a cycle; a tensor has not as many values as its shape; a scale is not finite, or of a QuantizeLinear not above 0; a
            weight or bias is not finite; or the operators are of a later opset than the installed onnx knows.
    """
    opset, known = opset_of(model) or 0, onnx.defs.onnx_opset_version()
    if opset > known:
        raise ModelError(
            f"'{source}' has operators of opset {opset}",
            expected=f"at most {known}, the last that onnx {onnx.__version__} knows",
            hint="export it with a lower opset, or install a later onnx",
        )
    try:
        onnx.checker.check_model(_with_shapes(model))
    except (onnx.checker.ValidationError, ValueError) as error:
        raise ModelError(f"the graph of '{source}' is not valid ({error})", expected=_EXPECTED, hint=_HINT) from error
    arrays = _arrays(model.graph, source)
    _check_scales(model, arrays, source)
    _check_layers(model, arrays, source)


def _with_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model whose inputs and outputs all record a shape, which the checker wants and no runtime does."""
    values = (*model.graph.input, *model.graph.output)
    if all(value.type.tensor_type.HasField("shape") for value in values):
        return model
    result = copy_of(model)
    for value in (*result.graph.input, *result.graph.output):
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.shape.SetInParent()
    return result


def _arrays(graph: onnx.GraphProto, source: str) -> dict[str, NDArray[np.generic]]:
    found = {}
    for name, tensor in constants(graph).items():
        try:
            found[name] = numpy_helper.to_array(tensor)
        except (ValueError, TypeError, KeyError) as error:
            raise ModelError(
                f"tensor '{name}' of '{source}' cannot be read ({error})",
                expected=f"the values of its shape {tuple(tensor.dims)}",
                hint=_HINT,
            ) from error
    return found


def _check_scales(model: onnx.ModelProto, arrays: Mapping[str, NDArray[np.generic]], source: str) -> None:
    for node in model.graph.node:
        if node.op_type not in QUANTIZERS or node.input[1] not in arrays:
            continue
        scale = arrays[node.input[1]].astype(np.float64)
        good = np.isfinite(scale) & ((scale > 0) | (node.op_type == DEQUANTIZE))
        if not good.all():
            raise ModelError(
                f"the scale of {node.op_type} '{node.name}' in '{source}' is {scale[~good].flat[0]}",
                expected="finite scales above 0",
                hint="calibrate the model again and export it",
            )


def _check_layers(model: onnx.ModelProto, arrays: Mapping[str, NDArray[np.generic]], source: str) -> None:
    for node in model.graph.node:
        for name in node.input[1:] if node.op_type in LAYER_OPS else ():
            values = arrays.get(name)
            if values is not None and values.dtype.kind == "f" and not np.isfinite(values).all():
                raise ModelError(
                    f"tensor '{name}' of {node.op_type} '{node.name}' in '{source}' holds NaN or infinity",
                    expected="finite weights",
                    hint="look at the training, or export the model again",
                )
