"""An ONNX file to an INT8 engine, with the map of what really runs in integers, and its mAP beside that of the float model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yoloqat.config import EvalConfig
from yoloqat.datasets import DetectionDataset, ImageRecord
from yoloqat.detectors import TorchPredictor, load_detector
from yoloqat.engines import OnnxPredictor, OpenVINOBuild
from yoloqat.errors import ModelError
from yoloqat.evaluation.drops import Baseline, drop_results
from yoloqat.evaluation.fidelity import BOX, NOISE
from yoloqat.metadata import plain_value
from yoloqat.onnx_graph.file import load_onnx, properties
from yoloqat.onnx_graph.operators import QUANTIZE
from yoloqat.pipeline.export import SOURCE_KEY
from yoloqat.pipeline.fidelity import box_results, fidelity_to, noise_results
from yoloqat.pipeline.models import path_key
from yoloqat.pipeline.ptq import refuse_quantized
from yoloqat.pipeline.run import Run
from yoloqat.predictor import Predictor
from yoloqat.provenance import file_sha256


def build_results(build: OpenVINOBuild) -> dict[str, Any]:
    """Return the result keys of an engine: those of every engine, and what was done against overflow."""
    return build.precision.results() | {
        "processor_saturates": build.saturates,
        "overflowing_pairs": {name: risk.pairs for name, risk in build.overflow.items() if risk.pairs},
        "split_layers": list(build.split),
    }


def float_source(onnx_path: Path, named: Path | None) -> Path | None:
    """Return the float model that an ONNX file came from, or None where it is not at hand.

    Args:
        onnx_path: A file that yoloqat exported.
        named: The float model that the user named, taken as it is.

    Raises:
        ModelError: The named model does not exist, or the ONNX file cannot be read.
    """
    if named is not None:
        if not named.is_file():
            raise ModelError(
                f"model '{named}' does not exist", expected="the float .pt or .onnx", hint="check `floating`"
            )
        return named
    entries = properties(load_onnx(onnx_path))
    try:
        source = plain_value(entries[SOURCE_KEY])
        path, sha256 = Path(source["path"]), source["sha256"]
    except (KeyError, TypeError):
        return None
    there = os.path.isfile(path)  # noqa: PTH113 - False for what is no possible path
    return path if there and file_sha256(path) == sha256 else None


def open_float(path: Path, run: Run) -> Predictor:
    """Open the float model that an engine came from.

    Args:
        path: A ``.pt``, or its export as an ONNX file.
        run: Device and threads.

    Raises:
        ModelError: It cannot be loaded, or is a quantized one.
    """
    if path.suffix != ".onnx":
        detector = load_detector(path)
        refuse_quantized(detector)
        return TorchPredictor(detector, device=run.device)
    quantizing = sum(node.op_type == QUANTIZE for node in load_onnx(path).graph.node)
    if quantizing:
        raise ModelError(
            f"'{path}' is quantized already ({quantizing} {QUANTIZE} nodes)",
            expected="a float model",
            hint="name the .pt or the ONNX file it was made from with `floating`",
        )
    return OnnxPredictor(path, threads=run.threads)


def engine_noise(
    engine: Predictor,
    floating: Predictor | None,
    images: Sequence[ImageRecord],
    config: EvalConfig,
    *,
    run: Run,
    qfloat: Path | None = None,
) -> dict[str, Any]:
    """Measure the noise of an engine: what quantization adds to the float model, and what the engine adds to QFloat.

    Args:
        engine: The engine.
        floating: The float model that it came from, or None where it is not at hand.
        images: What they run on; labels are not needed.
        config: Image size and batch.
        run: Who watches.
        qfloat: The QDQ file that ONNX Runtime computes in float as it is written, which is QFloat, or None.

    Returns:
        ``fidelity_images``; ``d`` and ``d_ci95`` of the engine to the float model, ``qfloat_d`` and ``qfloat_d_ci95`` of the
        engine to QFloat, and beside each ``box_disagreement``, 1 - IoU of the boxes; None where the model to compare with is not
        at hand, or leaves NMS to others where the engine does not.
    """
    written = None if qfloat is None else OnnxPredictor(qfloat, threads=run.threads)
    result: dict[str, Any] = {"fidelity_images": len(images)}
    for name, label, other in ((NOISE, "float", floating), (f"qfloat_{NOISE}", "QFloat", written)):
        found = None
        if other is not None and other.info.end2end == engine.info.end2end:
            found = fidelity_to(other, engine, images, config, run=run, names=(label, "engine"), detections=False)
        result |= noise_results(found, name) | box_results(found, name.replace(NOISE, BOX))
    return result


def score_engine(
    predictor: Predictor,
    source: Path,
    floating: Path | None,
    dataset: DetectionDataset,
    config: EvalConfig,
    *,
    run: Run,
    engine: str = "openvino",
    qfloat: Path | None = None,
) -> dict[str, Any]:
    """Score an engine, the float model it came from where that is at hand, and the file it came from in float arithmetic.

    Args:
        predictor: The engine.
        source: The ONNX file it was built from, which identifies finished parts; an engine's own files differ by build.
        floating: The float model, or None.
        dataset: The validation images.
        config: How to score; the batch is the engine's own where that is fixed.
        run: Where finished parts are kept.
        engine: The runtime's name, which identifies finished parts too.
        qfloat: The QDQ file that ONNX Runtime computes in float as it is written, which is QFloat; None measures no gap to it.

    Raises:
        ModelError: The float model cannot be loaded, or is a quantized one.

    Returns:
        ``map_engine`` and ``warnings`` about it; ``map_float``, ``drop`` and ``drop_ci95`` where there is a float model, else
        None; ``map_qfloat``, ``qfloat_difference`` (QFloat minus engine) and ``qfloat_difference_ci95`` where QFloat is asked
        for, else None.
    """
    config = EvalConfig(**{**vars(config), "batch": predictor.info.batch or config.batch})
    found = run.evaluate(predictor, dataset, config, label="engine", model_key={"engine": engine, **path_key(source)})
    result: dict[str, Any] = {
        "map_engine": found.metrics.map50_95,
        "warnings": list(found.warnings),
        "map_float": None,
        "drop": None,
        "drop_ci95": None,
        "map_qfloat": None,
        "qfloat_difference": None,
        "qfloat_difference_ci95": None,
    }
    if qfloat is not None:
        written = OnnxPredictor(qfloat, threads=run.threads)
        same = run.evaluate(
            written, dataset, config, label="QFloat", model_key={"engine": "qfloat", **path_key(qfloat)}
        )
        gap = Baseline(same.matches).drop(found.matches)
        result |= {"map_qfloat": same.metrics.map50_95, **drop_results(gap, "qfloat_difference")}
    if floating is None:
        return result
    reference = run.evaluate(open_float(floating, run), dataset, config, label="float", model_key=path_key(floating))
    drop = Baseline(reference.matches).drop(found.matches)
    return result | {"map_float": reference.metrics.map50_95, **drop_results(drop)}
