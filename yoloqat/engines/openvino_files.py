"""OpenVINO directories: those that yoloqat builds, and those that Ultralytics exports."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from yoloqat.engines import openvino_import
from yoloqat.engines.built_in_conf import onnx_file_info, openvino_conf, with_conf
from yoloqat.engines.model_info import described_info
from yoloqat.engines.openvino_import import import_openvino
from yoloqat.errors import ModelError, OutputError
from yoloqat.metadata import checked_info, plain_value
from yoloqat.onnx_graph.file import load_onnx, quantized_layers
from yoloqat.predictor import ModelInfo
from yoloqat.provenance.plain_yaml import parse_yaml

SCHEMA = {"name": "yoloqat-openvino", "version": 1}
XML, METADATA, ULTRALYTICS = "model.xml", "metadata.json", "metadata.yaml"
_OWN = "yoloqat"
READ_SECONDS = 300
"""How long OpenVINO may read a file: it takes seconds for the largest detectors."""


@dataclass(frozen=True, eq=False)
class OpenVINOFile:
    """A model as read from the disk, not compiled yet.

    Attributes:
        model: The `openvino.Model`.
        info: What it detects.
        quantized: Names of the layers that the file quantizes; empty where the file does not tell.
    """

    model: Any
    info: ModelInfo
    quantized: tuple[str, ...]


def read_model(source: str, data: str | bytes) -> Any:
    """Return the `openvino.Model` of a path, or of a serialised ONNX file.

    OpenVINO reads it in another process first: of some damaged files its reader crashes (2026.4: a Clip whose input has no
    known type, as behind an operator that it does not have), which no exception tells.

    Args:
        source: What errors name.
        data: A path to an IR's XML or an ONNX file, or the bytes of an ONNX file.

    Raises:
        ModelError: OpenVINO cannot read it.
    """
    _try_reading(source, data)
    try:
        return import_openvino().Core().read_model(data)
    except RuntimeError as error:
        raise ModelError(
            f"OpenVINO cannot read '{source}' ({error!s:.300})",
            expected="an ONNX file or its own IR",
            hint="export it again",
        ) from error


def _try_reading(source: str, data: str | bytes) -> None:
    command = [sys.executable, "-P", openvino_import.__file__]
    given = {"args": [*command, data]} if isinstance(data, str) else {"args": command, "input": data}
    try:
        ended = subprocess.run(**given, capture_output=True, timeout=READ_SECONDS, check=False).returncode
    except subprocess.TimeoutExpired:
        ended = None
    if ended is None or ended < 0:
        told = f"does not end within {READ_SECONDS} s" if ended is None else f"crashes by signal {-ended}"
        raise ModelError(
            f"OpenVINO's reader {told} on '{source}'",
            expected="operators that OpenVINO has, with shapes that fit each other",
            hint="export it again",
        )


def save_model(model: Any, xml: Path, out_dir: Path) -> Any:
    """Write ``model`` and return it as read back: OpenVINO does not notice when the disk cuts its weights short.

    Args:
        model: An `openvino.Model`.
        xml: The file to write; its weights go beside it.
        out_dir: What errors name: the directory that ``xml`` will be in at the end.

    Raises:
        OutputError: The directory cannot be written.
    """
    openvino = import_openvino()
    try:
        openvino.save_model(model, str(xml), compress_to_fp16=False)
        return openvino.Core().read_model(str(xml))
    except RuntimeError as error:
        raise OutputError(
            f"cannot write '{out_dir}' ({error})",
            expected="a writable path with enough free space",
            hint="free space there or name another directory with `out`",
        ) from error


def write_metadata(directory: Path, info: ModelInfo, props: Mapping[str, str], **more: Any) -> None:
    """Write ``metadata.json`` for yoloqat and ``metadata.yaml`` for Ultralytics.

    Ultralytics takes any directory whose name ends in ``_openvino_model``, its first ``.xml`` and the keys of its own
    exports from ``metadata.yaml``.

    Args:
        directory: Where the model lies.
        info: What the model detects.
        props: Metadata of the ONNX file that it came from, each the text of a Python literal.
        more: Further JSON-able entries of ``metadata.json``.
    """
    document = {"schema": SCHEMA, "info": asdict(info), **more}
    (directory / METADATA).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    values = {key: plain_value(text) for key, text in props.items() if not key.startswith(_OWN)}
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    (directory / ULTRALYTICS).write_text(text, encoding="utf-8")


def is_directory(path: Path) -> bool:
    """Return whether ``path`` is a directory that :func:`read_file` can be asked to read."""
    return path.is_dir() and ((path / XML).is_file() or (path / ULTRALYTICS).is_file())


def read_file(path: Path) -> OpenVINOFile:
    """Read an ONNX file, a directory that yoloqat built or one that Ultralytics exported.

    Raises:
        ModelError: It is missing, damaged or of another kind.
    """
    if path.suffix == ".onnx":
        source = load_onnx(path)
        info = onnx_file_info(str(path), source)
        return OpenVINOFile(read_model(str(path), str(path)), info, tuple(quantized_layers(source)))
    if (path / METADATA).is_file() or (path / XML).is_file():
        return _read_own(path)
    return _read_ultralytics(path)


def _read_own(path: Path) -> OpenVINOFile:
    sidecar = path / METADATA
    try:
        metadata = json.loads(sidecar.read_text(encoding="utf-8"))
        values = dict(metadata["info"])
        quantized = tuple(str(name) for name in metadata["quantized_layers"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(
            f"cannot read '{sidecar}' ({type(error).__name__}: {error})",
            expected="a directory that yoloqat built",
            hint="build it again with `engine=openvino`",
        ) from error
    info = checked_info(str(sidecar), values, hint="build it again with `engine=openvino`")
    model = read_model(str(path), str(path / XML))
    return OpenVINOFile(model, with_conf(info, openvino_conf(model)), quantized)


def _read_ultralytics(path: Path) -> OpenVINOFile:
    sidecar, found = path / ULTRALYTICS, sorted(path.glob("*.xml"))
    try:
        values, _ = parse_yaml(sidecar.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("not a mapping")
    except (OSError, ValueError) as error:
        raise ModelError(
            f"cannot read '{sidecar}' ({type(error).__name__}: {error})",
            expected="an OpenVINO directory that yoloqat or Ultralytics wrote",
            hint="check the path, or build it again",
        ) from error
    if len(found) != 1:
        raise ModelError(
            f"'{path}' holds {len(found)} .xml files", expected="the one of the model", hint="export it again"
        )
    model = read_model(str(path), str(found[0]))
    try:
        shape = tuple(None if side.is_dynamic else side.get_length() for side in model.input(0).get_partial_shape())
    except RuntimeError as error:
        raise ModelError(
            f"'{found[0]}' has no input of a known number of dimensions ({error})",
            expected="images: batch, channels, height, width",
            hint="export it again",
        ) from error
    info = described_info(str(sidecar), values, shape)
    return OpenVINOFile(model, with_conf(info, openvino_conf(model)), ())
