"""Metadata of an exported file, for runtimes and Ultralytics."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib import metadata as packages
from typing import Any

import onnx

from yoloqat.config import ExportConfig
from yoloqat.config.sizes import sides
from yoloqat.errors import ExportError
from yoloqat.onnx_graph.file import properties, set_properties
from yoloqat.onnx_graph.graph import PassResult, copy_of
from yoloqat.predictor import ModelInfo

KEY = "yoloqat"
SCHEMA = 1
REQUIRED = ("names", "stride", "task", "imgsz", "batch")


def ultralytics_metadata(
    info: ModelInfo, config: ExportConfig, *, description: str = "", channels: int = 3
) -> dict[str, Any]:
    """Return the metadata that `YOLO("model.onnx")` reads, by the keys of Ultralytics' own exporter.

    Ultralytics loads such a file as any export of its own: it reads ``stride``, ``batch`` and ``channels`` as integers,
    ``imgsz``, ``names``, ``args`` and ``end2end`` as Python literals, and ``task`` as text. Its ``dynamic`` means that height and
    width are open too: it would feed rectangles. It has no notion of an open batch alone, and feeds ``batch`` images.

    Args:
        info: Names, stride, task and whether the head does its own NMS.
        config: Image size and batch size of the input, and whether the graph contains NMS.
        description: One line for humans.
        channels: Channels of the input images.
    """
    try:
        version = packages.version("ultralytics")
    except packages.PackageNotFoundError:
        version = "unknown"
    return {
        "description": description or f"YOLO {info.task} model quantized by yoloqat",
        "author": "yoloqat",
        "date": datetime.now().astimezone().isoformat(),
        "version": version,
        "stride": info.stride,
        "task": info.task,
        "batch": config.batch,
        "imgsz": list(sides(config.imgsz)),
        "names": dict(info.names),
        "args": {"batch": config.batch, "dynamic": False, "half": bool(config.half), "nms": config.nms}
        | ({"conf": config.nms_conf} if config.nms else {}),
        "channels": channels,
        "end2end": info.end2end,
    }


def yoloqat_metadata(*, locations: Sequence[str], quantizers: Mapping[str, str], aliases: Mapping[str, str]) -> str:
    """Return yoloqat's own entry as JSON: ``schema``, ``version``, ``sites``, ``quantizers`` and ``aliases``.

    Args:
        locations: Names of the quantizers that the graph has, those of weights among them.
        quantizers: Name of each quantizer of an activation, to the location of the module that it is named after.
        aliases: Name of the quantizer that a reader would have had by itself, to the name of the one it uses.
    """
    try:
        version: str | None = packages.version("yoloqat")
    except packages.PackageNotFoundError:
        version = None
    entry = {"schema": SCHEMA, "version": version, "sites": list(locations)}
    return json.dumps(entry | {"quantizers": dict(quantizers), "aliases": dict(aliases)})


def named_quantizers(model: onnx.ModelProto) -> dict[str, str]:
    """Map each activation quantizer's name to its location by the file's own metadata; empty where it has none."""
    text = properties(model).get(KEY, "{}")
    try:
        return {str(name): str(location) for name, location in json.loads(text).get("quantizers", {}).items()}
    except (ValueError, AttributeError, TypeError, RecursionError):
        return {}


def set_metadata(
    model: onnx.ModelProto, metadata: Mapping[str, Any], *, required: Sequence[str] = REQUIRED
) -> PassResult:
    """Write ``metadata`` into the model's properties, each value as the text of its Python literal.

    Requires:
        ``metadata`` has at least the keys ``required``: those of a detector, none for any other module.

    Ensures:
        The model's properties are exactly ``metadata``; the graph is untouched.

    Raises:
        ExportError: A required key is missing.
    """
    missing = [key for key in required if key not in metadata]
    if missing:
        raise ExportError(
            f"metadata lacks {', '.join(missing)}",
            expected=f"at least {', '.join(required)}",
            hint="pass what ultralytics_metadata returns",
        )
    wanted = {key: str(value) for key, value in metadata.items()}
    if properties(model) == wanted:
        return PassResult(model, modified=False)
    result = copy_of(model)
    set_properties(result, wanted)
    return PassResult(result, modified=True)
