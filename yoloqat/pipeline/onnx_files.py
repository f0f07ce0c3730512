"""The two files that calibrating a float ONNX detector gives: the QDQ file, and the float file in the form it was read in."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from glob import escape
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
_ENTRY, _ORIGIN = "onnx", ("path", "sha256")
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


@dataclass(frozen=True)
class QuantizedFile:
    """A float ONNX detector with the qparams of its quantizers.

    Attributes:
        floating: The float detector.
        placement: Of its quantizers.
        qparams: Of all of them.
        quant: Which layers, and how.
        made: How it was calibrated, JSON-able.
        outputs: Where its heads end, as they were named.
        origin: ``path`` and ``sha256`` of the file that was calibrated, and where it was read again ``float_sha256``, that of the
            ``float.onnx`` made of it.
        float_layers: Layers left float after the ranges were found; they are in ``quant.ignore`` too.
    """

    floating: FloatFile
    placement: OnnxPlacement
    qparams: QParams
    quant: QuantConfig
    made: Mapping[str, Any]
    outputs: tuple[str, ...]
    origin: Mapping[str, str]
    float_layers: tuple[str, ...] = ()

    @property
    def calibrated(self) -> QuantConfig:
        """What was quantized when the ranges were found."""
        gone = {escape(name) for name in self.float_layers}
        return replace(self.quant, ignore=tuple(pattern for pattern in self.quant.ignore if pattern not in gone))

    @property
    def calibration(self) -> CalibrationConfig:
        """The settings among what :attr:`made` tells."""
        return calibration_of(self.made)

    def leave_float(self, layers: Sequence[str]) -> QuantizedFile:
        """Return the same with more layers in floating point; what stays quantized keeps its qparams.

        Args:
            layers: Names of quantized layers, not all of them.

        Raises:
            ConfigError: No layer is left to quantize.
            PatternError: A name is none of a layer.
        """
        quant = replace(self.quant, ignore=(*self.quant.ignore, *(escape(name) for name in layers)))
        placement = place(self.floating.model, quant, self.outputs)
        qparams = QParams(
            {location: self.qparams.activations[location] for location in placement.plan.locations},
            {layer: self.qparams.weights[layer] for layer in placement.layers},
        )
        floats = (*self.float_layers, *layers)
        return replace(self, placement=placement, qparams=qparams, quant=quant, float_layers=floats)

    def graph(self, path: Path, sha256: str) -> tuple[onnx.ModelProto, ExportReport]:
        """Return the QDQ graph, which tells how it was made.

        Args:
            path: Of the float file.
            sha256: Of the float file.

        Raises:
            ExportError: The qparams cannot be written.
        """
        entries: dict[str, Any] = properties(self.floating.model)
        entries |= {"description": f"{Path(self.origin['path']).stem}, INT8 QDQ by yoloqat"}
        entries[SOURCE_KEY] = {"path": str(path.resolve()), "sha256": sha256}
        if self.quant.target is not None:
            entries[TARGET_KEY] = self.quant.target
        model, report = quantized_graph(self.floating.model, self.placement, self.qparams, entries)
        own = json.loads(properties(model)[KEY])
        own[_ENTRY] = {
            "float": sha256,
            "quantization": to_dict(self.quant),
            "outputs": list(self.outputs),
            "calibration": dict(self.made),
            "origin": {name: self.origin[name] for name in _ORIGIN},
            "float_layers": list(self.float_layers),
        }
        set_properties(model, properties(model) | {KEY: json.dumps(own)})
        return model, report


def save_quantized(quantized: QuantizedFile, path: Path, floating: Path) -> ExportReport:
    """Write the QDQ file, for TensorRT with FP16 where nothing is quantized.

    Args:
        quantized: What to write.
        path: The file.
        floating: The float file, which is written already.

    Raises:
        ExportError: The qparams cannot be written, or the graph is not valid.
        OutputError: The file cannot be written.
    """
    model, report = quantized.graph(floating, file_sha256(floating))
    if quantized.quant.target is not None and TARGETS[quantized.quant.target].half:
        model = bake_half(model).model
    save_onnx(model, path)
    return report


def save_files(quantized: QuantizedFile, out: Path) -> ExportReport:
    """Write the float file and the QDQ file.

    Args:
        quantized: What to write.
        out: The directory.

    Raises:
        ExportError: The qparams cannot be written, or the graph is not valid.
        OutputError: A file cannot be written.
    """
    save_onnx(quantized.floating.model, out / FLOAT)
    return save_quantized(quantized, out / QDQ, out / FLOAT)


def read_quantized(path: Path) -> QuantizedFile:
    """Read a QDQ file that was calibrated from a float ONNX file, with that float file.

    Args:
        path: The QDQ file; the float file lies beside it as ``float.onnx``, or where it was written.

    Raises:
        ModelError: It was not made from an ONNX file, is damaged, or its float file is missing or another.
    """
    model = load_onnx(path)
    if not any(node.op_type in (QUANTIZE, DEQUANTIZE) for node in model.graph.node):
        raise ModelError(
            f"'{path}' is a float model",
            expected="a model.onnx that `yoloqat calibrate` made of a float ONNX file",
            hint=f"run `yoloqat calibrate {path}` first",
        )
    try:
        entry = json.loads(properties(model)[KEY])[_ENTRY]
        quant, outputs = from_dict(QuantConfig, entry["quantization"]), tuple(map(str, entry["outputs"]))
        sha256, made = str(entry["float"]), dict(entry["calibration"])
        calibration_of(made)
        told = entry.get("origin")
        origin = None if told is None else {name: str(told[name]) for name in _ORIGIN}
        floats = tuple(map(str, entry.get("float_layers", ())))
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
    known = {"path": str(source), "sha256": sha256} if origin is None else origin
    floating = FloatFile(normal, info, source)
    known["float_sha256"] = sha256
    return QuantizedFile(floating, placement, qparams, quant, made, outputs, known, floats)


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
