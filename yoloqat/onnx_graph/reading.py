"""Reading of an ONNX file with its external data, whatever its graph is worth."""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]

from yoloqat.errors import ModelError

_EXPECTED = "an ONNX file"


def read_onnx(path: Path) -> onnx.ModelProto:
    """Read an ONNX file with its external data.

    Raises:
        ModelError: The file or its external data cannot be read, or it is no ONNX file.
    """
    if path.exists() and not path.is_file():  # a device may have no end
        raise ModelError(f"'{path}' is no regular file", expected=_EXPECTED, hint="check the path")
    try:
        model = onnx.load(path, format="protobuf", load_external_data=False)
    except OSError as error:
        raise ModelError(
            f"cannot read '{path}' ({error.strerror or error})", expected=_EXPECTED, hint="check the path"
        ) from error
    except (DecodeError, ValueError) as error:
        raise ModelError(
            f"'{path}' is no ONNX file ({error})", expected=_EXPECTED, hint="export it again, it may be cut off"
        ) from error
    broken = [text for node in model.graph.node for text in _texts(node) if not isinstance(text, str)]
    if broken:  # protobuf gives bytes for them
        raise ModelError(
            f"'{path}' holds {len(broken)} names that are no UTF-8, the first {broken[0]!r}",
            expected=_EXPECTED,
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
