"""An ONNX detector file: read with clear errors, and what its metadata says."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]

from yoloqat.engines.onnx_checks import check_graph
from yoloqat.errors import ModelError
from yoloqat.predictor import ModelInfo

_MEND_EXPORT = "export it with yoloqat or Ultralytics"
_LAYER_OPS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def load_onnx(path: Path) -> onnx.ModelProto:
    """Read an ONNX file with its external data, and check its graph.

    Raises:
        ModelError: The file is missing, unreadable, or holds no valid ONNX graph.
    """
    if path.exists() and not path.is_file():  # a device may have no end
        raise ModelError(f"'{path}' is no regular file", expected="an ONNX file", mend="check the path")
    try:
        model = onnx.load(path, format="protobuf")
    except OSError as error:
        raise ModelError(
            f"cannot read '{path}' ({error.strerror or error})", expected="an ONNX file", mend="check the path"
        ) from error
    except (DecodeError, ValueError, onnx.checker.ValidationError) as error:
        raise ModelError(f"'{path}' is no ONNX file ({error})", expected="an ONNX file", mend=_MEND_EXPORT) from error
    if not model.graph.node or not model.graph.output:
        raise ModelError(
            f"'{path}' holds a graph of {len(model.graph.node)} nodes", expected="an ONNX file", mend=_MEND_EXPORT
        )
    check_graph(model, str(path))
    return model


def properties(model: onnx.ModelProto) -> dict[str, str]:
    """Return the metadata properties of ``model``."""
    return {entry.key: entry.value for entry in model.metadata_props}


def plain_value(text: str) -> Any:
    """Return the value of a Python literal, or the text itself where it is none."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def _literal(source: str, key: str, text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError) as error:
        raise ModelError(
            f"metadata {key!r} of '{source}' is {text!r}", expected="a Python literal", mend=_MEND_EXPORT
        ) from error


def _names(source: str, value: Any) -> dict[int, str]:
    names = dict(enumerate(value)) if isinstance(value, list | tuple) else value
    keys = sorted(names) if isinstance(names, dict) and all(isinstance(key, int) for key in names) else None
    if not keys or keys != list(range(len(keys))):
        raise ModelError(
            f"metadata 'names' of '{source}' is {value!r}",
            expected="class names numbered from 0 without gaps",
            mend=_MEND_EXPORT,
        )
    return {key: str(names[key]) for key in keys}


def model_info(source: str, props: Mapping[str, str], shape: tuple[int | None, ...]) -> ModelInfo:
    """Return what the metadata of Ultralytics' (and yoloqat's) exports and the input's shape tell.

    Args:
        source: The file, named in errors.
        props: Metadata; ``names`` is required, ``stride``, ``task``, ``end2end`` and ``args`` may be absent.
        shape: Shape of the image input, (batch, channels, height, width), None where any size is taken.

    Raises:
        ModelError: ``names`` is missing, an entry is malformed, or the input is no batch of images.
    """
    if "names" not in props:
        raise ModelError(
            f"'{source}' has the metadata {sorted(props)}", expected="class names under 'names'", mend=_MEND_EXPORT
        )
    if len(shape) != 4:
        raise ModelError(
            f"the input of '{source}' has {len(shape)} dimensions",
            expected="images of 4: batch, channels, height, width",
            mend=_MEND_EXPORT,
        )
    arguments = _literal(source, "args", props.get("args", "{}"))
    stride = _literal(source, "stride", props.get("stride", "32"))
    if not isinstance(stride, int) or stride < 1:
        raise ModelError(f"metadata 'stride' of '{source}' is {stride!r}", expected="a whole number", mend=_MEND_EXPORT)
    suppressed = isinstance(arguments, dict) and bool(arguments.get("nms", False))
    height, width = shape[2], shape[3]
    return ModelInfo(
        names=_names(source, _literal(source, "names", props["names"])),
        stride=stride,
        task=props.get("task", "detect"),
        end2end=suppressed or bool(_literal(source, "end2end", props.get("end2end", "False"))),
        imgsz=(height, width) if height is not None and width is not None else None,
        batch=shape[0],
    )


def input_shape(model: onnx.ModelProto) -> tuple[int | None, ...]:
    """Return the shape of the first graph input that is no initialiser, None for dimensions left open."""
    constants = {tensor.name for tensor in model.graph.initializer}
    value = next((value for value in model.graph.input if value.name not in constants), None)
    if value is None:
        return ()
    return tuple(
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None
        for dim in value.type.tensor_type.shape.dim
    )


def quantized_layers(model: onnx.ModelProto) -> list[str]:
    """Return the names of the weighted nodes that read a dequantized input and a dequantized weight, in graph order."""
    dequantized = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    return [
        node.name
        for node in model.graph.node
        if node.op_type in _LAYER_OPS and all(name in dequantized for name in node.input[:2])
    ]
