"""The files with which NVIDIA DeepStream's Gst-nvinfer runs an artefact.

Source: DeepStream's developer guide, "Gst-nvinfer", tables of the `[property]` and `[class-attrs-...]` groups, and its
`NvDsInferParseCustomFunc` interface.
"""

from __future__ import annotations

import configparser
import io
from importlib import resources
from pathlib import Path

from yoloqat.config.checks import check_fraction
from yoloqat.deploy.artifact import Artifact, model_files
from yoloqat.errors import ConfigError
from yoloqat.provenance import atomic_directory

PARSER = "nvdsparse_yoloqat.cpp"
LIBRARY = "libnvdsparse_yoloqat.so"
FUNCTION = "NvDsInferParseYoloqat"
_INT8_MODE, _DETECTOR, _NMS = 1, 0, 2
_COLOR_FORMATS = {3: 0, 1: 2}
"""Channels of the model to `model-color-format`: RGB, and grey."""


def deepstream_config(artifact: Artifact, *, conf: float = 0.25, nms_iou: float = 0.7, top_k: int = 300) -> str:
    """Return the text of Gst-nvinfer's configuration file.

    Args:
        artifact: An ONNX file, of which Gst-nvinfer builds an engine itself, or a TensorRT engine.
        conf: Boxes below this confidence are dropped.
        nms_iou: Of two boxes of a class that overlap more, the less confident one is dropped.
        top_k: Boxes kept per class and image.

    Raises:
        ConfigError: The artefact is OpenVINO's, its head suppresses by itself, its size is open, or a share is out of
            range.
    """
    check_fraction("conf", conf)
    check_fraction("nms_iou", nms_iou)
    _check(artifact)
    height, width = artifact.info.imgsz or (0, 0)
    config = configparser.ConfigParser()
    config.optionxform = str  # type: ignore[assignment,method-assign] # keys keep their case
    config["property"] = {
        "gpu-id": "0",
        "net-scale-factor": repr(1 / 255),
        "model-color-format": str(_COLOR_FORMATS[artifact.info.channels]),
        "onnx-file" if artifact.kind == "onnx" else "model-engine-file": _model_name(artifact),
        "labelfile-path": "labels.txt",
        "batch-size": str(artifact.info.batch or 1),
        "network-mode": str(_INT8_MODE),
        "network-type": str(_DETECTOR),
        "process-mode": "1",
        "gie-unique-id": "1",
        "interval": "0",
        "num-detected-classes": str(artifact.info.classes),
        "infer-dims": f"{artifact.info.channels};{height};{width}",
        "maintain-aspect-ratio": "1",
        "symmetric-padding": "1",
        "cluster-mode": str(_NMS),
        "parse-bbox-func-name": FUNCTION,
        "custom-lib-path": LIBRARY,
    }
    config["class-attrs-all"] = {
        "pre-cluster-threshold": repr(conf),
        "nms-iou-threshold": repr(nms_iou),
        "topk": str(top_k),
    }
    stream = io.StringIO()
    config.write(stream, space_around_delimiters=False)
    return stream.getvalue()


def _model_name(artifact: Artifact) -> str:
    return "model.onnx" if artifact.kind == "onnx" else "model.plan"


def _check(artifact: Artifact) -> None:
    if artifact.kind == "openvino":
        raise ConfigError(
            f"'{artifact.path}' is for OpenVINO",
            expected="an ONNX file or a TensorRT engine for DeepStream",
            hint="name the ONNX file that it was built from",
        )
    if artifact.info.end2end:
        raise ConfigError(
            f"'{artifact.path}' suppresses overlapping boxes by itself",
            expected="raw boxes and scores, which DeepStream clusters",
            hint="export the model without NMS",
        )
    if artifact.info.channels not in _COLOR_FORMATS:
        raise ConfigError(
            f"'{artifact.path}' takes images of {artifact.info.channels} channels",
            expected="RGB or grey images for DeepStream",
            hint="serve it with `triton`",
        )
    if artifact.info.imgsz is None:
        raise ConfigError(
            f"'{artifact.path}' takes images of any size",
            expected="one size for DeepStream",
            hint="export it with `imgsz`",
        )


def write_deepstream(
    artifact: Artifact, directory: Path, *, conf: float = 0.25, nms_iou: float = 0.7, top_k: int = 300
) -> Path:
    """Write a directory with Gst-nvinfer's configuration, the model, the labels and the source of the box parser.

    Args:
        artifact: See :func:`deepstream_config`; its file is copied, a TensorRT engine without Ultralytics' header.
        directory: Where to; it is replaced as a whole.
        conf: See :func:`deepstream_config`.
        nms_iou: See :func:`deepstream_config`.
        top_k: See :func:`deepstream_config`.

    Returns:
        The configuration file.

    Raises:
        ConfigError: See :func:`deepstream_config`.
        ModelError: The artefact cannot be read.
        OutputError: The directory cannot be written.
    """
    text = deepstream_config(artifact, conf=conf, nms_iou=nms_iou, top_k=top_k)
    files = model_files(artifact, plan="model.plan")
    parser = (resources.files("yoloqat.deploy") / PARSER).read_bytes()
    # one label a line; Gst-nvinfer splits lines at semicolons
    labels = "".join(f"{name.replace(';', ',')}\n" for _, name in sorted(artifact.info.names.items()))
    directory = Path(directory)
    with atomic_directory(directory) as temporary:
        (temporary / "config_infer_primary.txt").write_text(text, encoding="utf-8")
        (temporary / "labels.txt").write_text(labels, encoding="utf-8")
        (temporary / PARSER).write_bytes(parser)
        for name, data in files.items():
            (temporary / name).write_bytes(data)
    return directory / "config_infer_primary.txt"
