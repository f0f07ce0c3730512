"""The two files that calibrating a float ONNX detector gives: the QDQ file, and the float file in the form it was read in."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from yoloqat.config import CalibrationConfig, QuantConfig, QuantScheme, from_dict, to_dict
from yoloqat.config.sizes import ImageSize
from yoloqat.config.target import TARGET_KEY, TARGETS
from yoloqat.engines.built_in_conf import onnx_file_info
from yoloqat.errors import ConfigError, ModelError
from yoloqat.export.activations import quantizer_prefix
from yoloqat.export.half import FIRST_OPSET, bake_half
from yoloqat.export.metadata import KEY
from yoloqat.export.qdq import ExportReport, save_onnx
from yoloqat.metadata import plain_value
from yoloqat.onnx_graph.file import load_onnx, properties, set_properties
from yoloqat.onnx_graph.graph import initializers
from yoloqat.onnx_graph.operators import DEQUANTIZE, QUANTIZE
from yoloqat.onnx_quant.float_graph import OPSET, float_graph
from yoloqat.onnx_quant.metadata import with_metadata
from yoloqat.onnx_quant.placement import OnnxPlacement, place
from yoloqat.onnx_quant.quantize import quantized_graph
from yoloqat.pipeline.export import SOURCE_KEY
from yoloqat.pipeline.recipe import calibration_of
from yoloqat.predictor import ModelInfo
from yoloqat.provenance import file_sha256
from yoloqat.quant.qparams import QParams, TensorQParams

QDQ, FLOAT = "model.onnx", "float.onnx"
_ENTRY = "onnx"
_HINT = "calibrate the float file again"


@dataclass(frozen=True)
class FloatFile:
    """A float ONNX detector that is ready to be quantized.

    Attributes:
        model: In normal form, its output and metadata as those of Ultralytics' exports.
        info: What it tells of itself.
        source: The file it was read from.
        notes: What was done or guessed, one line each.
    """

    model: onnx.ModelProto
    info: ModelInfo
    source: Path
    notes: tuple[str, ...] = ()


def open_float_file(
    path: Path,
    *,
    imgsz: ImageSize | None = None,
    names: Mapping[int, str] | None = None,
    target: str | None = None,
) -> FloatFile:
    """Read a float ONNX detector.

    Args:
        path: The file.
        imgsz: The image size, needed where the file has none.
        names: Names of the classes, where the file has none.
        target: The engine that will run it; for TensorRT the operators are raised to those that quantize FP16.

    Raises:
        ModelError: It cannot be read, is quantized, or its output is none that can be decoded.
        ConfigError: It has no image size and ``imgsz`` is None.
    """
    half = target is not None and TARGETS[target].half
    model = float_graph(load_onnx(path), str(path), opset=FIRST_OPSET if half else OPSET)
    model, info, notes = with_metadata(model, str(path), imgsz=imgsz, names=names)
    return FloatFile(model, info, path, notes)


def save_files(
    floating: FloatFile,
    placement: OnnxPlacement,
    qparams: QParams,
    out: Path,
    *,
    quant: QuantConfig,
    outputs: tuple[str, ...],
    calibration: Mapping[str, Any],
) -> ExportReport:
    """Write the float file and the QDQ file, which tells how it was made.

    Args:
        floating: The float detector.
        placement: Of its quantizers.
        qparams: Of all of them.
        out: The directory.
        quant: Which layers, and how.
        outputs: Where the heads end.
        calibration: How it was calibrated, JSON-able.

    Raises:
        ExportError: The qparams cannot be written, or the graph is not valid.
        OutputError: A file cannot be written.
    """
    save_onnx(floating.model, out / FLOAT)
    sha256 = file_sha256(out / FLOAT)
    entries: dict[str, Any] = properties(floating.model)
    entries |= {"description": f"{floating.source.stem}, INT8 QDQ by yoloqat"}
    entries[SOURCE_KEY] = {"path": str((out / FLOAT).resolve()), "sha256": sha256}
    if quant.target is not None:
        entries[TARGET_KEY] = quant.target
    model, report = quantized_graph(floating.model, placement, qparams, entries)
    own = json.loads(properties(model)[KEY])
    own[_ENTRY] = {
        "float": sha256,
        "quantization": to_dict(quant),
        "outputs": list(outputs),
        "calibration": dict(calibration),
    }
    set_properties(model, properties(model) | {KEY: json.dumps(own)})
    if quant.target is not None and TARGETS[quant.target].half:
        model = bake_half(model).model
    save_onnx(model, out / QDQ)
    return report


@dataclass(frozen=True)
class QuantizedFile:
    """A QDQ file that :func:`save_files` wrote, taken apart again.

    Attributes:
        floating: The float detector.
        placement: Of its quantizers.
        qparams: Of all of them, as the file holds them.
        quant: Which layers, and how.
        calibration: How it was calibrated.
        outputs: Where its heads end, as they were named.
    """

    floating: FloatFile
    placement: OnnxPlacement
    qparams: QParams
    quant: QuantConfig
    calibration: CalibrationConfig
    outputs: tuple[str, ...]


def read_quantized(path: Path) -> QuantizedFile:
    """Read a QDQ file that was calibrated from a float ONNX file, with that float file.

    Args:
        path: The QDQ file; the float file lies beside it as ``float.onnx``, or where it was written.

    Raises:
        ModelError: It was not made from an ONNX file, is damaged, or its float file is missing or another.
    """
    model = load_onnx(path)
    try:
        entry = json.loads(properties(model)[KEY])[_ENTRY]
        quant, outputs = from_dict(QuantConfig, entry["quantization"]), tuple(map(str, entry["outputs"]))
        sha256, calibration = str(entry["float"]), calibration_of(entry["calibration"])
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, ConfigError) as error:
        raise ModelError(
            f"'{path}' does not tell how an ONNX file was quantized ({error!r:.200})",
            expected="a model.onnx that calibrating made of a float ONNX file",
            hint="calibrate the float ONNX file, or pass the checkpoint that this file was exported from",
        ) from error
    source = _float_beside(path, model, sha256)
    normal = load_onnx(source)
    info = onnx_file_info(str(source), normal)
    placement = place(normal, quant, outputs)
    try:
        qparams = _qparams(model, placement, quant)
    except (KeyError, ValueError) as error:
        raise ModelError(
            f"'{path}' lacks the qparams {error}", expected="those of every quantizer of its placement", hint=_HINT
        ) from error
    return QuantizedFile(FloatFile(normal, info, source), placement, qparams, quant, calibration, outputs)


def _float_beside(path: Path, model: onnx.ModelProto, sha256: str) -> Path:
    written = plain_value(properties(model).get(SOURCE_KEY, ""))
    recorded = written.get("path") if isinstance(written, dict) else None
    candidates = [path.with_name(FLOAT), *([Path(recorded)] if isinstance(recorded, str) else [])]
    for candidate in candidates:
        if os.path.isfile(candidate) and file_sha256(candidate) == sha256:  # noqa: PTH113 - False for no possible path
            return candidate
    raise ModelError(
        f"the float file of '{path}' is not at '{candidates[0]}'",
        expected=f"{FLOAT} with the SHA-256 {sha256:.12}..., which calibrating wrote beside it",
        hint="copy it there, or calibrate the float file again",
    )


def _qparams(model: onnx.ModelProto, placement: OnnxPlacement, quant: QuantConfig) -> QParams:
    held, nodes = initializers(model.graph), {node.name: node for node in model.graph.node}
    own = json.loads(properties(model)[KEY])
    names = {str(location): str(name) for name, location in own["quantizers"].items()}
    aliases = {str(name): str(used) for name, used in own["aliases"].items()}

    def read(name: str, scheme: QuantScheme, *, integers: bool = False) -> TensorQParams:
        codes, scale, point = (
            numpy_helper.to_array(held[part]) if part in held else None for part in nodes[name].input
        )
        if scale is None or point is None:
            raise KeyError(name)
        held_codes = codes.astype(np.int64) if integers and codes is not None else None
        return TensorQParams(scheme, scale.astype(np.float32), point.astype(np.int64), held_codes)

    activations = {}
    for location in placement.plan.locations:
        name = names.get(location) or aliases[f"{quantizer_prefix(location)}/{QUANTIZE}"]
        activations[location] = read(name, quant.activations)
    weights = {layer: read(f"{layer}/weight/{DEQUANTIZE}", quant.weights, integers=True) for layer in placement.layers}
    return QParams(activations, weights)
