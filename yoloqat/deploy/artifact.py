"""What a server must know of an artefact: its tensors, its classes and its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnx

from yoloqat.engines.model_info import model_info
from yoloqat.engines.openvino_files import XML, is_directory
from yoloqat.engines.tensorrt.header import split_header
from yoloqat.errors import ModelError
from yoloqat.onnx_graph.file import input_shape, inputs_of, load_onnx, properties
from yoloqat.predictor import ModelInfo

Kind = Literal["onnx", "openvino", "tensorrt"]
_DTYPES: dict[int, str] = {
    onnx.TensorProto.FLOAT: "FP32",
    onnx.TensorProto.FLOAT16: "FP16",
    onnx.TensorProto.UINT8: "UINT8",
    onnx.TensorProto.INT32: "INT32",
    onnx.TensorProto.INT64: "INT64",
}


@dataclass(frozen=True)
class Tensor:
    """An input or output.

    Attributes:
        name: Its name in the graph.
        dtype: ``"FP32"``, ``"FP16"``, ``"UINT8"``, ``"INT32"`` or ``"INT64"``.
        shape: With the batch first; None where a side is open.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Artifact:
    """A built model.

    Attributes:
        path: The file, or OpenVINO's directory.
        kind: What runs it.
        info: What it detects.
        inputs: Its inputs.
        outputs: Its outputs, in the graph's order.
        metadata: The ONNX file's metadata.
    """

    path: Path
    kind: Kind
    info: ModelInfo
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    metadata: dict[str, str]


def describe(path: Path, source: Path) -> Artifact:
    """Return what a server must know of an artefact.

    Args:
        path: An ONNX file, a directory that yoloqat built for OpenVINO, or a TensorRT engine.
        source: The ONNX file that it was built from; its tensors have the same names and shapes.

    Raises:
        ModelError: The artefact is missing or of another kind, or the ONNX file cannot be read.
    """
    path = Path(path)
    kinds: dict[str, Kind] = {".onnx": "onnx", ".engine": "tensorrt", ".plan": "tensorrt"}
    kind = "openvino" if is_directory(path) else kinds.get(path.suffix) if path.is_file() else None
    if kind is None:
        raise ModelError(
            f"'{path}' is no artefact",
            expected="an .onnx file, an OpenVINO directory or a TensorRT engine",
            hint="build the model first",
        )
    model = load_onnx(Path(source))
    return Artifact(
        path=path,
        kind=kind,
        info=model_info(str(source), properties(model), input_shape(model)),
        inputs=_tensors(str(source), inputs_of(model)),
        outputs=_tensors(str(source), model.graph.output),
        metadata=properties(model),
    )


def _tensors(source: str, values: Sequence[onnx.ValueInfoProto]) -> tuple[Tensor, ...]:
    found = []
    for value in values:
        tensor = value.type.tensor_type
        if tensor.elem_type not in _DTYPES:
            raise ModelError(
                f"tensor '{value.name}' of '{source}' has the element type {tensor.elem_type}",
                expected=f"one of {', '.join(_DTYPES.values())}",
                hint="export the model again",
            )
        sides = tuple(dim.dim_value if dim.dim_value > 0 else None for dim in tensor.shape.dim)
        found.append(Tensor(value.name, _DTYPES[tensor.elem_type], sides))
    return tuple(found)


def plan_bytes(path: Path) -> bytes:
    """Return a TensorRT engine without the header that Ultralytics puts before it.

    Servers other than Ultralytics want the plan alone.

    Raises:
        ModelError: The file cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"cannot read '{path}' ({error.strerror})", expected="a TensorRT engine", hint="check the path"
        ) from error
    return split_header(data)[1]


def model_files(artifact: Artifact, *, plan: str) -> dict[str, bytes]:
    """Return the files of an artefact by the names that servers look for.

    Args:
        artifact: The artefact.
        plan: What a TensorRT engine is called.

    Raises:
        ModelError: A file cannot be read.
    """
    if artifact.kind == "tensorrt":
        return {plan: plan_bytes(artifact.path)}
    sources = {"model.onnx": artifact.path}
    if artifact.kind == "openvino":
        sources = {XML: artifact.path / XML, "model.bin": artifact.path / "model.bin"}
    try:
        return {name: path.read_bytes() for name, path in sources.items()}
    except OSError as error:
        raise ModelError(
            f"cannot read '{artifact.path}' ({error.strerror})",
            expected="an artefact that yoloqat built",
            hint="build it again",
        ) from error
