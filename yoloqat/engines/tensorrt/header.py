"""Engine files as Ultralytics reads them: four bytes of length, JSON, then TensorRT's plan.

Source: `ultralytics.nn.backends.base.BaseBackend.engine_header`; the length is that of the JSON in bytes, little-endian.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yoloqat.engines.model_info import described_info
from yoloqat.errors import ModelError
from yoloqat.metadata import plain_value
from yoloqat.predictor import ModelInfo
from yoloqat.provenance import atomic_path

KEY = "yoloqat"
SCHEMA = 1
_LENGTH = 4
_LITERALS = ("stride", "names", "args", "end2end", "imgsz")


@dataclass(frozen=True, eq=False)
class EngineFile:
    """An engine as read from the disk, not loaded yet.

    Attributes:
        metadata: What the header says.
        plan: TensorRT's serialised engine.
        info: What it detects, and its fixed sizes.
    """

    metadata: dict[str, Any]
    plan: bytes
    info: ModelInfo

    @property
    def own(self) -> dict[str, Any]:
        """The entries that yoloqat wrote, empty for an engine that something else built."""
        entries = self.metadata.get(KEY)
        return entries if isinstance(entries, dict) else {}


def engine_metadata(
    props: Mapping[str, str], *, dynamic: bool, dla: int | None, own: Mapping[str, Any], conf: float | None = None
) -> dict[str, Any]:
    """Return the header of an engine from the metadata of the ONNX file it was built from.

    Args:
        props: The file's properties, each the text of a Python literal.
        dynamic: Whether the engine takes several shapes.
        dla: Index of the accelerator it was built for, which a runtime must be told before it loads the plan.
        own: Entries for yoloqat itself.
        conf: Confidence below which the graph drops boxes by itself, None where it drops none.
    """
    metadata = {key: plain_value(text) for key, text in props.items() if not key.startswith(KEY)}
    arguments = metadata.get("args")
    metadata["args"] = (arguments if isinstance(arguments, dict) else {}) | {"dynamic": dynamic}
    if conf is not None:
        metadata["args"]["conf"] = conf
    if dla is not None:
        metadata["dla"] = dla
    return metadata | {KEY: {"schema": SCHEMA, **own}}


def write_engine(path: Path, metadata: Mapping[str, Any], plan: bytes | memoryview) -> None:
    """Write an engine file, whole or not at all.

    Raises:
        OutputError: It cannot be written.
    """
    head = json.dumps(metadata).encode()
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(len(head).to_bytes(_LENGTH, "little"))
        file.write(head)
        file.write(plan)


def split_header(data: bytes) -> tuple[dict[str, Any] | None, bytes]:
    """Return the header of an engine file and the plan behind it; of a bare plan None and the whole.

    Args:
        data: The file's bytes.
    """
    end = _LENGTH + int.from_bytes(data[:_LENGTH], "little")
    try:
        metadata = json.loads(data[_LENGTH:end]) if _LENGTH < end <= len(data) else None
    except (ValueError, RecursionError):
        metadata = None
    return (metadata, data[end:]) if isinstance(metadata, dict) else (None, data)


def read_engine(path: Path) -> EngineFile:
    """Read an engine file that yoloqat or Ultralytics wrote; needs no TensorRT.

    Raises:
        ModelError: It is missing, has no header (as a plan of `trtexec`), or a header without class names.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"cannot read '{path}' ({error.strerror or error})", expected="an engine file", hint="check the path"
        ) from error
    metadata, plan = split_header(data)
    if metadata is None or not plan:
        raise ModelError(
            f"'{path}' of {len(data)} bytes does not begin with a header and a plan",
            expected="an engine that yoloqat or Ultralytics built",
            hint="build it with `engine=tensorrt`; a bare plan of trtexec says nothing of its classes",
        )
    return EngineFile(metadata, plan, header_info(str(path), metadata))


def header_info(source: str, metadata: Mapping[str, Any]) -> ModelInfo:
    """Return what a header tells of the model.

    Args:
        source: The file, named in errors.
        metadata: The header.

    Raises:
        ModelError: The class names are missing, or an entry is malformed.
    """
    values = {
        key: plain_value(text) if isinstance(text, str) else text for key, text in metadata.items() if key in _LITERALS
    }
    arguments, channels = values.get("args"), metadata.get("channels")
    shape: tuple[Any, ...] = (None, channels, None, None)
    if not (isinstance(arguments, dict) and arguments.get("dynamic")):
        try:
            height, width = metadata["imgsz"]
            shape = (metadata["batch"], channels, height, width)
        except (KeyError, TypeError, ValueError) as error:
            found = {key: metadata.get(key) for key in ("batch", "imgsz")}
            raise ModelError(
                f"the header of '{source}' has the sizes {found!r:.120}",
                expected="'batch' and 'imgsz' as (height, width)",
                hint="build it again with `engine=tensorrt`",
            ) from error
    return described_info(source, values | {"task": metadata.get("task")}, shape)
