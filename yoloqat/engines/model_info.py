"""What the metadata of a detector's file say of it."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from yoloqat.errors import ModelError
from yoloqat.metadata import checked_info, unfit
from yoloqat.predictor import ModelInfo

_HINT_EXPORT = "export it with yoloqat or Ultralytics"


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
    has_nms = bool((arguments or {}).get("nms"))
    conf = (arguments or {}).get("conf") if has_nms else None
    if isinstance(conf, bool) or not isinstance(conf, int | float) or not 0 <= conf <= 1:
        conf = None
    return replace(info, end2end=info.end2end or has_nms, conf=None if conf is None else float(conf))
