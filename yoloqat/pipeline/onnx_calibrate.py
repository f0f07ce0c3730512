"""A float ONNX detector quantized without its torch model: placed, calibrated, written, and measured against the float file."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from yoloqat.calibration.nvidia import BACKENDS
from yoloqat.config import CalibrationConfig, EvalConfig, MethodSpec, QuantConfig, to_dict
from yoloqat.config.method import PER_LAYER
from yoloqat.config.sizes import json_size
from yoloqat.datasets import DetectionDataset, ImageRecord
from yoloqat.errors import ConfigError
from yoloqat.evaluation.drops import Baseline, drop_results
from yoloqat.evaluation.reference import Reference
from yoloqat.onnx_quant.collect import collect_histograms
from yoloqat.onnx_quant.placement import OnnxPlacement, place
from yoloqat.onnx_quant.predictor import GraphPredictor
from yoloqat.onnx_quant.quantize import fake_quantized, find_qparams, weight_location
from yoloqat.pipeline.fidelity import noise_results
from yoloqat.pipeline.models import check_scoring, path_key
from yoloqat.pipeline.onnx_files import FloatFile, QuantizedFile, save_files
from yoloqat.pipeline.run import IMAGES, Run, images_digest, records_key
from yoloqat.provenance import file_sha256
from yoloqat.quant.calib import Histogram


def calibrate_onnx(
    floating: FloatFile,
    records: Sequence[ImageRecord],
    config: EvalConfig,
    *,
    quant: QuantConfig,
    calibration: CalibrationConfig,
    run: Run,
    outputs: Sequence[str] = (),
    float_layers: Sequence[str] = (),
    dataset: DetectionDataset | None = None,
    compared: Sequence[ImageRecord] = (),
) -> dict[str, Any]:
    """Quantize a float ONNX detector and measure what that costs where there are images.

    Writes ``model.onnx``, the QDQ file, and ``float.onnx``, the float file as it was read. Noise and mAP are those of the Q/DQ
    pairs computed in float arithmetic, as for a checkpoint: an engine adds its own.

    Args:
        floating: The float detector.
        records: The calibration images.
        config: Image size, batch, and how to score.
        quant: Which layers, and how.
        calibration: Method, bins and weights.
        run: Where the files go, threads, who watches.
        outputs: Tensors or nodes at which the heads end; found where none are named.
        float_layers: Layers that stay float as in a searched file: the ranges of the others are found as if they were quantized.
        dataset: The validation images, or None to score nothing.
        compared: Images to measure the noise on; none measures none.

    Returns:
        The keys of the result of ``calibrate``; ``map_swapped``, which needs ranges of each tensor, is None.

    Raises:
        ConfigError: The image size does not fit, the method needs a torch model, or no layer is left to quantize.
        PatternError: A pattern or an output names nothing.
        CalibrationError: A tensor holds NaN or infinity.
    """
    method = calibration.method
    _check_method(method)
    check_scoring(floating.info, dataset, config)
    start = time.perf_counter()
    collected = collect_file(floating, records, config, quant=quant, calibration=calibration, run=run, outputs=outputs)
    quantized = collected.quantized(method, float_layers)
    seconds = time.perf_counter() - start
    placement = quantized.placement
    report = save_files(quantized, run.out)
    result: dict[str, Any] = {
        "method": str(method),
        "quantized_layers": len(placement.layers),
        "layers": list(placement.layers),
        "backend": {"name": BACKENDS[0]},
        "calibration_images": len(records),
        "calibration_seconds": seconds,
        "activation_quantizers": len(placement.plan.groups),
        "float": dict(placement.plan.floats),
        "quantized_convolutions": report.quantized_convolutions,
        "convolutions": report.convolutions,
        "notes": list(floating.notes),
        "map_float": None,
        "map_swapped": None,
        "map_qfloat": None,
    }
    everything = {*placement.plan.locations, *map(weight_location, placement.layers)}
    noisy = fake_quantized(floating.model, placement, quantized.qparams, everything)
    models = {
        name: GraphPredictor(graph, floating.info, str(floating.source), threads=run.threads)
        for name, graph in (("float", floating.model), (str(method), noisy))
    }
    found = None
    if compared:
        reference = Reference(models["float"], compared, config, detections=False, progress=run.labelled("float"))
        found = reference.compare(models[str(method)], progress=run.labelled(str(method)))
    result |= noise_results(found) | {"fidelity_images": len(compared)}
    if dataset is not None:
        key = path_key(floating.source) | {
            "quantization": to_dict(quantized.quant),
            "calibration": quantized.made,
            "outputs": list(outputs),
        }
        result |= _scored(models, str(method), dataset, config, run, key)
    return result


@dataclass(frozen=True, eq=False)
class CollectedFile:
    """A float ONNX detector with what one pass over the calibration images found: enough for every method.

    Attributes:
        floating: The float detector.
        placement: Of its quantizers.
        histograms: By the location that owns a scale.
        quant: Which layers, and how.
        calibration: Bins, weights and images; of its methods any can be taken.
        made: How it was made, without the method, JSON-able.
        outputs: Where its heads end, as they were named.
    """

    floating: FloatFile
    placement: OnnxPlacement
    histograms: Mapping[str, Histogram]
    quant: QuantConfig
    calibration: CalibrationConfig
    made: Mapping[str, Any]
    outputs: tuple[str, ...]

    def quantized(self, method: MethodSpec, float_layers: Sequence[str] = ()) -> QuantizedFile:
        """Return the detector with the ranges of a method.

        Args:
            method: How ranges are found.
            float_layers: Layers that stay float as in a searched file: the ranges are found as if they were quantized.

        Raises:
            ConfigError: The method needs a torch model, or no layer is left to quantize.
            PatternError: A name is none of a layer.
        """
        _check_method(method)
        calibration, floating = replace(self.calibration, method=method), self.floating
        weights = calibration.weight_method
        qparams = find_qparams(
            floating.model, self.placement, self.histograms, self.quant, method, weight_method=weights
        )
        origin = {"path": str(floating.source), "sha256": file_sha256(floating.source)}
        made = to_dict(calibration) | dict(self.made)
        found = QuantizedFile(floating, self.placement, qparams, self.quant, made, self.outputs, origin)
        return found.leave_float(float_layers) if float_layers else found


def collect_file(
    floating: FloatFile,
    records: Sequence[ImageRecord],
    config: EvalConfig,
    *,
    quant: QuantConfig,
    calibration: CalibrationConfig,
    run: Run,
    outputs: Sequence[str] = (),
) -> CollectedFile:
    """Place quantizers on a float ONNX detector and run it once on the calibration images.

    Args:
        floating: The float detector.
        records: The calibration images.
        config: Image size and batch.
        quant: Which layers, and how.
        calibration: Bins, and how images were chosen.
        run: Threads, who watches.
        outputs: Tensors or nodes at which the heads end; found where none are named.

    Raises:
        ConfigError: No layer is left to quantize.
        PatternError: A pattern or an output names nothing.
        CalibrationError: A tensor holds NaN or infinity.
    """
    placement = place(floating.model, quant, outputs)
    histograms = collect_histograms(
        floating.model,
        placement,
        records,
        info=floating.info,
        config=calibration,
        imgsz=config.imgsz,
        batch=config.batch,
        threads=run.threads,
        progress=run.labelled("calibrate"),
    )
    made = {
        IMAGES: images_digest(records),
        "images_sha": records_key(records),
        "imgsz": json_size(config.imgsz),
        "batch": config.batch,
    }
    return CollectedFile(floating, placement, histograms, quant, calibration, made, tuple(outputs))


def _scored(
    models: Mapping[str, GraphPredictor],
    method: str,
    dataset: DetectionDataset,
    config: EvalConfig,
    run: Run,
    key: dict[str, Any],
) -> dict[str, Any]:
    scores = {
        name: run.evaluate(models[name], dataset, config, label=name, model_key={"onnx": name, **key})
        for name in ("float", method)
    }
    drop = Baseline(scores["float"].matches).drop(scores[method].matches)
    return {
        "map_float": scores["float"].metrics.map50_95,
        "map_qfloat": scores[method].metrics.map50_95,
        **drop_results(drop),
    }


def _check_method(method: MethodSpec) -> None:
    if method.kind == PER_LAYER:
        raise ConfigError(
            f"method is '{method}' with an ONNX file",
            expected="max, entropy, mse or a percentile, which need nothing but histograms",
            hint="choose one of them, or pass the .pt",
        )
