"""An ONNX file: read with clear errors, and what a look at its graph tells."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]
from onnx import helper

from yoloqat.errors import ModelError
from yoloqat.onnx_graph.checks import check_graph
from yoloqat.onnx_graph.graph import initializers
from yoloqat.onnx_graph.operators import DEQUANTIZE, LAYER_OPS

EXPECTED = "an ONNX file"


def read_onnx(path: Path) -> onnx.ModelProto:
    """Read an ONNX file with its external data, whatever its graph is worth.

    Raises:
        ModelError: The file or its external data cannot be read, or it is no ONNX file.
    """
    if path.exists() and not path.is_file():  # a device may have no end
        raise ModelError(f"'{path}' is no regular file", expected=EXPECTED, hint="check the path")
    try:
        model = onnx.load(path, format="protobuf", load_external_data=False)
    except OSError as error:
        raise ModelError(
            f"cannot read '{path}' ({error.strerror or error})", expected=EXPECTED, hint="check the path"
        ) from error
    except (DecodeError, ValueError) as error:
        raise ModelError(
            f"'{path}' is no ONNX file ({error})", expected=EXPECTED, hint="export it again, it may be cut off"
        ) from error
    broken = [text for node in model.graph.node for text in _texts(node) if not isinstance(text, str)]
    if broken:  # protobuf gives bytes for them
        raise ModelError(
            f"'{path}' holds {len(broken)} names that are no UTF-8, the first {broken[0]!r}",
            expected=EXPECTED,
            hint="export it again, it may be damaged",
        )
    try:
        onnx.load_external_data_for_model(model, str(path.absolute().parent))
    except (OSError, ValueError, RuntimeError, onnx.checker.ValidationError) as error:
        raise ModelError(
            f"external data of '{path}' cannot be read ({error!s:.300})",
            expected="the files that it names, in its directory",
            hint="copy them beside it",
        ) from error
    return model


def _texts(node: onnx.NodeProto) -> list[object]:
    return [node.op_type, node.domain, node.name, *node.input, *node.output, *(entry.name for entry in node.attribute)]


def load_onnx(path: Path) -> onnx.ModelProto:
    """Read an ONNX file with its external data, and check its graph.

    Raises:
        ModelError: The file is missing, unreadable, or holds no valid ONNX graph.
    """
    model = read_onnx(path)
    if not model.graph.node or not model.graph.output:
        raise ModelError(
            f"'{path}' holds a graph of {len(model.graph.node)} nodes",
            expected=EXPECTED,
            hint="export it with yoloqat or Ultralytics",
        )
    check_graph(model, str(path))
    return model


def properties(model: onnx.ModelProto) -> dict[str, str]:
    """Return the metadata properties of ``model``."""
    return {entry.key: entry.value for entry in model.metadata_props}


def set_properties(model: onnx.ModelProto, values: Mapping[str, str]) -> None:
    """Set the metadata properties of ``model`` to ``values``, in place."""
    del model.metadata_props[:]
    helper.set_model_props(model, dict(values))


def inputs_of(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Return the graph inputs that are no initialisers."""
    held = initializers(model.graph)
    return [value for value in model.graph.input if value.name not in held]


def input_shape(model: onnx.ModelProto) -> tuple[int | None, ...]:
    """Return the shape of the first of :func:`inputs_of`, None for dimensions left open."""
    return tuple(
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None
        for value in inputs_of(model)[:1]
        for dim in value.type.tensor_type.shape.dim
    )


def quantized_nodes(model: onnx.ModelProto, operators: Collection[str] = LAYER_OPS) -> list[onnx.NodeProto]:
    """Return the nodes of ``operators`` that read a dequantized input and a dequantized weight, in graph order."""
    dequantized = {node.output[0] for node in model.graph.node if node.op_type == DEQUANTIZE}
    nodes = (node for node in model.graph.node if node.op_type in operators)
    return [node for node in nodes if all(name in dequantized for name in node.input[:2])]


def quantized_layers(model: onnx.ModelProto) -> list[str]:
    """Return the names of :func:`quantized_nodes`, the layers that an engine can run in integers."""
    return [node.name for node in quantized_nodes(model)]
