"""What an ONNX detector is: its own metadata, or where it has none what its output and the user tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from yoloqat.config.sizes import ImageSize, sides, size_text
from yoloqat.engines.built_in_conf import onnx_file_info
from yoloqat.engines.ort import open_session, run_session, session_options
from yoloqat.errors import ConfigError, ModelError
from yoloqat.onnx_graph.file import input_shape, properties, set_properties
from yoloqat.onnx_graph.graph import copy_of
from yoloqat.onnx_quant.decode import Layout, layout_of, standard_output
from yoloqat.predictor import ModelInfo

_HINT = "export it without NMS, with one output of boxes and scores"


def with_metadata(
    model: onnx.ModelProto, source: str, *, imgsz: ImageSize | None = None, names: Mapping[int, str] | None = None
) -> tuple[onnx.ModelProto, ModelInfo, tuple[str, ...]]:
    """Return a float detector whose output and metadata are as those of Ultralytics' exports, so that every command reads it.

    Args:
        model: In normal form.
        source: The file, named in errors.
        imgsz: The image size, needed where the file has none.
        names: Names of the classes, where the file has none and their number is the same; else they are numbered.

    Returns:
        The model, what it tells of itself, and a line for each thing that was done or guessed.

    Raises:
        ConfigError: The file has no image size and ``imgsz`` is None.
        ModelError: Its input is no batch of images, or its output is none that can be decoded.
    """
    if "names" in properties(model):
        info = onnx_file_info(source, model)
        size = info.imgsz or sides(640 if imgsz is None else imgsz)
        shape = _output_shape(model, source, info.channels, size, info.batch)
        if info.end2end or (len(shape) == 3 and shape[1] >= 4 + info.classes and shape[2] != 5 + info.classes):
            return model, info, ()
        classes: int | None = info.classes
    else:
        classes = None
    batch, channels, size = _input(model, source, imgsz)
    layout = layout_of(_output_shape(model, source, channels, size, batch), model, size, source, classes)
    notes = [f"'{source}': {layout.text}"]
    decoded = standard_output(model, layout, size)
    if classes is None:
        known = names is not None and len(names) == layout.classes
        labels = dict(names) if known and names is not None else {n: f"class_{n}" for n in range(layout.classes)}
        notes.append(
            f"no metadata: {layout.classes} classes by the output, "
            f"{'named by the data set' if known else 'numbered'}, stride {layout.stride}, {size_text(size)} pixels"
        )
        decoded = _written(decoded, layout, labels, size, batch, channels)
    return decoded, onnx_file_info(source, decoded), tuple(notes)


def _written(
    model: onnx.ModelProto,
    layout: Layout,
    names: Mapping[int, str],
    size: tuple[int, int],
    batch: int | None,
    channels: int,
) -> onnx.ModelProto:
    values: dict[str, Any] = {
        "stride": layout.stride,
        "task": "detect",
        "batch": batch or 1,
        "imgsz": list(size),
        "names": dict(names),
        "args": {"batch": batch or 1, "dynamic": False, "half": False, "nms": False},
        "channels": channels,
        "end2end": False,
    }
    result = copy_of(model)
    set_properties(result, properties(model) | {key: str(value) for key, value in values.items()})
    return result


def _input(model: onnx.ModelProto, source: str, imgsz: ImageSize | None) -> tuple[int | None, int, tuple[int, int]]:
    shape = input_shape(model)
    if len(shape) != 4:
        raise ModelError(
            f"the input of '{source}' has {len(shape)} dimensions",
            expected="images of 4: batch, channels, height, width",
            hint=_HINT,
        )
    batch, channels, height, width = shape
    if height is not None and width is not None:
        return batch, channels or 3, (height, width)
    if imgsz is None:
        raise ConfigError(
            f"the input of '{source}' has the size {height} x {width} and no metadata tells another",
            expected="an image size",
            hint="name it with `imgsz`",
        )
    return batch, channels or 3, sides(imgsz)


def _output_shape(
    model: onnx.ModelProto, source: str, channels: int, size: tuple[int, int], batch: int | None
) -> tuple[int, ...]:
    """Return the shape of the first output for images of a size: what a file records of it may be open."""
    session = open_session(model.SerializeToString(), source, session_options(threads=1))
    images = np.full((batch or 1, channels, *size), 0.5, dtype=np.float32)
    return tuple(run_session(session, images)[0].shape)
