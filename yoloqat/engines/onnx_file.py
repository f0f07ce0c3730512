"""An ONNX detector file: read with clear errors, and what its metadata says."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from yoloqat.engines.onnx_checks import check_graph
from yoloqat.errors import ModelError
from yoloqat.metadata import checked_info, unfit
from yoloqat.onnx_graph.reading import read_onnx
from yoloqat.predictor import ModelInfo

_HINT_EXPORT = "export it with yoloqat or Ultralytics"
_LAYER_OPS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def load_onnx(path: Path) -> onnx.ModelProto:
    """Read an ONNX file with its external data, and check its graph.

    Raises:
        ModelError: The file is missing, unreadable, or holds no valid ONNX graph.
    """
    model = read_onnx(path)
    if not model.graph.node or not model.graph.output:
        raise ModelError(
            f"'{path}' holds a graph of {len(model.graph.node)} nodes", expected="an ONNX file", hint=_HINT_EXPORT
        )
    check_graph(model, str(path))
    return model


def properties(model: onnx.ModelProto) -> dict[str, str]:
    """Return the metadata properties of ``model``."""
    return {entry.key: entry.value for entry in model.metadata_props}


def _literal(source: str, key: str, text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise unfit(source, key, text, expected="a Python literal", hint=_HINT_EXPORT) from error


def model_info(source: str, props: Mapping[str, str], shape: tuple[int | None, ...]) -> ModelInfo:
    """Return what the metadata of Ultralytics' (and yoloqat's) exports and the input's shape tell.

    Args:
        source: The file, named in errors.
        props: Metadata, each the text of a Python literal but for ``task``; see :func:`described_info`.
        shape: Shape of the image input, (batch, channels, height, width), None where any size is taken.

    Raises:
        ModelError: ``names`` is missing, an entry is malformed, or the input is no batch of images.
    """
    literals = ("names", "stride", "end2end", "args", "imgsz", "channels")
    values = {key: _literal(source, key, props[key]) for key in literals if key in props}
    return described_info(source, values | {"task": props.get("task")}, shape)


def described_info(source: str, values: Mapping[str, Any], shape: tuple[int | None, ...]) -> ModelInfo:
    """Return what the entries of Ultralytics' metadata and the input's shape tell.

    Args:
        source: The file, named in errors.
        values: ``names`` is required; ``stride``, ``task``, ``end2end``, ``args``, ``imgsz`` and ``channels`` may be absent. The
            size is that of the shape: ``imgsz`` must only be a possible one.
        shape: Shape of the image input, (batch, channels, height, width), None where any size is taken.

    Raises:
        ModelError: ``names`` is missing, an entry is malformed, or the input is no batch of images.
    """
    arguments = values.get("args")
    if not isinstance(arguments, dict | None):
        raise unfit(source, "args", arguments, expected="a dict", hint=_HINT_EXPORT)
    if len(shape) != 4:
        raise ModelError(
            f"the input of '{source}' has {len(shape)} dimensions",
            expected="images of 4: batch, channels, height, width",
            hint=_HINT_EXPORT,
        )
    checked_info(source, values, hint=_HINT_EXPORT)
    batch, channels, height, width = shape
    fixed = {"batch": batch, "imgsz": None if height is None or width is None else (height, width)}
    if channels is not None:
        fixed["channels"] = channels
    info = checked_info(source, {**values, **fixed}, hint=_HINT_EXPORT)
    suppressed = bool((arguments or {}).get("nms"))
    conf = (arguments or {}).get("conf") if suppressed else None
    if isinstance(conf, bool) or not isinstance(conf, int | float) or not 0 <= conf <= 1:
        conf = None
    return replace(info, end2end=info.end2end or suppressed, conf=None if conf is None else float(conf))


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
