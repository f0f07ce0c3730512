"""A model repository for NVIDIA's Triton Inference Server.

Source: Triton's user guide, "Model Repository" and "Model Configuration"; the fields are those of `ModelConfig` in
`model_config.proto`.
"""

from __future__ import annotations

import re
from pathlib import Path

from yoloqat.config.checks import check_int
from yoloqat.deploy.artifact import Artifact, Tensor, model_files
from yoloqat.errors import ConfigError
from yoloqat.provenance import atomic_directory

_BACKENDS = {"onnx": "onnxruntime", "openvino": "openvino", "tensorrt": "tensorrt"}
_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_MAX_DELAY_US = 1000


def triton_config(artifact: Artifact, *, name: str, max_batch: int = 8, gpu: bool | None = None) -> str:
    """Return the text of ``config.pbtxt``.

    A model of fixed batch is served at that batch and no other; one of open batch is batched by the server.

    Args:
        artifact: What is served.
        name: The model's name, which is also that of its directory.
        max_batch: Largest batch that the server forms of single requests, where the model's batch is open.
        gpu: Run on a GPU; by default what the kind of the artefact asks for: TensorRT does, the others do not.

    Raises:
        ConfigError: The name has characters that a directory or a URL cannot have, or ``max_batch`` is below 1.
    """
    check_int("max_batch", max_batch, 1)
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"the model's name is {name!r}", expected="letters, digits, '_', '.' and '-'", hint="choose another name"
        )
    batched = artifact.inputs[0].shape[0] is None
    on_gpu = artifact.kind == "tensorrt" if gpu is None else gpu
    literal = repr(_metadata(artifact))
    lines = [
        f"name: {_quoted(name)}",
        f'backend: "{_BACKENDS[artifact.kind]}"',
        f"max_batch_size: {max_batch if batched else 0}",
        *_tensors("input", artifact.inputs, batched=batched),
        *_tensors("output", artifact.outputs, batched=batched),
        f"instance_group [ {{ count: 1 kind: {'KIND_GPU' if on_gpu else 'KIND_CPU'} }} ]",
    ]
    if batched:
        lines.append(f"dynamic_batching {{ max_queue_delay_microseconds: {_MAX_DELAY_US} }}")
    lines.append(f'parameters {{ key: "metadata" value {{ string_value: {_quoted(literal)} }} }}')
    return "\n".join(lines) + "\n"


def _metadata(artifact: Artifact) -> dict[str, object]:
    """Return what Ultralytics' client of Triton reads from the parameter ``metadata``."""
    info = artifact.info
    return {
        "names": info.names,
        "stride": info.stride,
        "task": info.task,
        "imgsz": list(info.imgsz or (640, 640)),
        "batch": info.batch or 1,
        "channels": info.channels,
        "end2end": info.end2end,
    }


def _quoted(text: str) -> str:
    r"""Return a string of protobuf's text format: in double quotes, with \\ before what would end it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _tensors(field: str, tensors: tuple[Tensor, ...], *, batched: bool) -> list[str]:
    lines = [f"{field} ["]
    for index, tensor in enumerate(tensors):
        shape = tensor.shape[1:] if batched else tensor.shape
        dims = ", ".join("-1" if side is None else str(side) for side in shape)
        comma = "," if index < len(tensors) - 1 else ""
        lines.append(f"  {{ name: {_quoted(tensor.name)} data_type: TYPE_{tensor.dtype} dims: [ {dims} ] }}{comma}")
    return [*lines, "]"]


def write_triton(
    artifact: Artifact, repository: Path, *, name: str, max_batch: int = 8, gpu: bool | None = None
) -> Path:
    """Write ``REPOSITORY/NAME`` with ``config.pbtxt``, ``labels.txt`` and version 1 of the model.

    Args:
        artifact: What is served; its files are copied. A TensorRT engine loses Ultralytics' header, which Triton does
            not know.
        repository: Triton's model repository; other models in it stay.
        name: The model's name.
        max_batch: See :func:`triton_config`.
        gpu: See :func:`triton_config`.

    Returns:
        The model's directory.

    Raises:
        ConfigError: See :func:`triton_config`.
        ModelError: A file of the artefact cannot be read.
        OutputError: The repository cannot be written.
    """
    text = triton_config(artifact, name=name, max_batch=max_batch, gpu=gpu)
    files = model_files(artifact, plan="model.plan")
    directory = Path(repository) / name
    with atomic_directory(directory) as temporary:
        (temporary / "config.pbtxt").write_text(text, encoding="utf-8")
        labels = "".join(f"{label}\n" for _, label in sorted(artifact.info.names.items()))
        (temporary / "labels.txt").write_text(labels, encoding="utf-8")
        (temporary / "1").mkdir()
        for file, data in files.items():
            (temporary / "1" / file).write_bytes(data)
    return directory
