"""A detector to a QDQ ONNX file, and the proof that the file computes what the detector does."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from yoloqat.config import EvalConfig, ExportConfig
from yoloqat.config.sizes import sides
from yoloqat.config.target import TARGET_KEY
from yoloqat.datasets import Batch, DetectionDataset, ImageRecord, plan_batches, read_batches
from yoloqat.detectors import Detector, TorchPredictor, torch_threads
from yoloqat.detectors.open_batch import open_batch
from yoloqat.engines import OnnxPredictor
from yoloqat.errors import ConfigError
from yoloqat.evaluation.drops import Baseline, drop_results
from yoloqat.evaluation.fidelity import BOX
from yoloqat.export import ExportReport, export_qdq, ultralytics_metadata
from yoloqat.linting import lint_file, lint_results
from yoloqat.onnx_graph.file import read_onnx
from yoloqat.pipeline.fidelity import box_results, fidelity_to, noise_results
from yoloqat.pipeline.parity import node_parity
from yoloqat.pipeline.run import Run
from yoloqat.predictor import Predictor
from yoloqat.quant import module_qparams, unshared, weights_float
from yoloqat.quant.graph import quantizer_placeholders

PARITY_IMAGES = 8
SOURCE_KEY = "yoloqat_source"
NMS_TASKS = ("detect", "segment", "pose")
"""The tasks whose boxes standard non-maximum suppression takes."""


def export_config(detector: Detector, config: ExportConfig) -> ExportConfig:
    """Return how a detector is exported for the target that it was calibrated for, or that the settings name.

    Args:
        detector: A calibrated or a float detector.
        config: A target in it must be the detector's own; a float detector, or one without a target whose quantization is
            what the target wants, takes any.

    Raises:
        ConfigError: It was calibrated for another target, or otherwise than the target wants; or a setting contradicts it.
    """
    if detector.quantization is None:
        return config
    quant, asked, path = detector.quantization.config, config.target, detector.source.path
    if asked is None or asked == quant.target:
        return replace(config, target=quant.target)
    hint = f"leave `target` out, or calibrate with `target={asked}`"
    if quant.target is not None:
        raise ConfigError(
            f"target is {asked!r} and '{path}' is calibrated for '{quant.target}'",
            expected=f"'{quant.target}'",
            hint=hint,
        )
    try:
        replace(quant, target=asked)
    except ConfigError as error:
        told = f"'{path}' is calibrated without a target, and its {error.what}"
        raise ConfigError(told, expected=error.expected, hint=hint) from error
    return config


def export_onnx(detector: Detector, path: Path, config: ExportConfig) -> ExportReport:
    """Write a detector as ONNX: QDQ where it is quantized, plain float where it is not.

    Args:
        detector: A calibrated or a float detector.
        path: The file to write.
        config: Image size, batch, opset, FP16, suppression and target.

    Raises:
        ConfigError: Suppression is asked of a detector that suppresses by itself, or whose boxes are rotated; or the target is
            not the one that it was calibrated for.
        ExportError: A scheme cannot be written as QDQ, or the module cannot be traced.
        CalibrationError: A quantizer has no range yet.
        OutputError: The file cannot be written.
    """
    config = export_config(detector, config)
    if config.nms and (detector.info.end2end or detector.info.task not in NMS_TASKS):
        kind = "gives one box per object" if detector.info.end2end else f"is for the task '{detector.info.task}'"
        raise ConfigError(
            f"nms is {config.nms} and '{detector.source.path}' {kind}",
            expected=f"a detector of upright boxes ({', '.join(NMS_TASKS)}) that leaves suppression to others",
            hint="export it without `nms`",
        )
    numbers = module_qparams(detector.module)
    channels = detector.info.channels
    precision = f"{'INT8 QDQ' if numbers.weights else 'float'}{', FP16' if config.half else ''}"
    metadata = ultralytics_metadata(
        detector.info,
        config,
        description=f"{Path(detector.source.path).stem}, {precision} by yoloqat",
        channels=channels,
    )
    metadata[SOURCE_KEY] = {"path": str(Path(detector.source.path).resolve()), "sha256": detector.source.sha256}
    if config.target is not None:
        metadata[TARGET_KEY] = config.target
    batch = max(config.batch, 2) if config.dynamic else config.batch  # a batch of 1 would be traced as fixed
    example = torch.zeros(batch, channels, *sides(config.imgsz))
    module = detector.module.to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    opened = open_batch(module) if config.dynamic else nullcontext()
    with opened, unshared(module), weights_float(module), quantizer_placeholders(module):
        return export_qdq(
            module, numbers, example, path, config=config, metadata=metadata, classes=detector.info.classes
        )


def lint_export(path: Path) -> dict[str, Any]:
    """Return the counts and the findings of the lint of an exported file, as ``export`` reports them."""
    found = lint_results(lint_file(path))
    return {"lint": {"errors": found["errors"], "warnings": found["warnings"]}, "lint_findings": found["findings"]}


def check_parity_images(images: int, batch: int) -> None:
    """Check that there is a whole batch of images to compare on: with none the comparison would pass whatever the file holds.

    Raises:
        ConfigError: There are fewer images than the batch.
    """
    if images < batch:
        raise ConfigError(
            f"batch is {batch} and the data set has {images} images",
            expected="at least one whole batch to compare on",
            hint=f"set `batch` to {images} or less",
        )


def _graph_sha256(path: Path) -> str:
    """Return the hash of an ONNX file without its metadata, whose date differs each time the same model is exported."""
    model = read_onnx(path)
    del model.metadata_props[:]
    return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()


def verify_export(
    detector: Detector,
    path: Path,
    dataset: DetectionDataset | None,
    config: EvalConfig,
    *,
    run: Run,
    batch: int,
    compared: Sequence[ImageRecord] = (),
    fp32: Path | None = None,
) -> dict[str, Any]:
    """Compare an exported file with the detector it came from, node by node, by its noise and by mAP.

    The mAP difference stands beside the thread noise: the difference of the same QFloat model between two thread counts,
    where flipped roundings cascade in the same way.

    Args:
        detector: The calibrated detector.
        path: What it was exported to.
        dataset: The validation images; None scores nothing.
        config: How to score; its batch is replaced by that of the file.
        run: Where finished parts are kept.
        batch: The file's batch size.
        compared: Images to measure the noise on, and to compare nodes on without a data set.
        fp32: The same file with FP32 where nothing is quantized, to compare node by node first; None where ``path`` is that.

    Returns:
        The keys that ``export`` adds with images, and with labels.

    Raises:
        ConfigError: There are fewer images than the batch.
    """
    images = compared if dataset is None else dataset.images
    check_parity_images(len(images), batch)
    plans = plan_batches(images, config.imgsz, batch, stride=detector.info.stride, channels=detector.info.channels)
    full = [plan for plan in plans if len(plan.records) == batch][: max(1, PARITY_IMAGES // batch)]
    predictor = TorchPredictor(detector, device=run.device)
    batches = list(islice(read_batches(full), len(full)))
    config = EvalConfig(**{**vars(config), "batch": batch})
    engine = OnnxPredictor(path, threads=run.threads)
    noise = None
    if compared and engine.info.end2end == detector.info.end2end:
        names = "QFloat", "ONNX Runtime"
        noise = fidelity_to(predictor, engine, compared, config, run=run, names=names, detections=False)
    before = {} if fp32 is None else {"fp32": _node_results(detector, fp32, batches, run)}
    result = {
        **before,
        **_node_results(detector, path, batches, run),
        **noise_results(noise, "d_onnx"),
        **box_results(noise, f"{BOX}_onnx"),
        "fidelity_images": len(compared),
    }
    return result if dataset is None else result | _scored(predictor, engine, dataset, config, path, run)


def _node_results(detector: Detector, path: Path, batches: Sequence[Batch], run: Run) -> dict[str, Any]:
    """Compare a file with the detector node by node."""
    nodes = node_parity(detector, path, batches, threads=run.threads)
    elements, different = sum(node.elements for node in nodes), sum(node.different for node in nodes)
    return {
        "node_max_steps": max((node.max_steps for node in nodes), default=0),
        "node_flip_share": different / elements if elements else 0.0,
        "node_flip_share_worst": max((node.share for node in nodes), default=0.0),
        "nodes_compared": len(nodes),
        "nodes": [
            {"layer": node.layer, "flip_share": node.share, "max_steps": node.max_steps, "elements": node.elements}
            for node in nodes
        ],
    }


def _scored(
    predictor: Predictor, engine: Predictor, dataset: DetectionDataset, config: EvalConfig, path: Path, run: Run
) -> dict[str, Any]:
    """Return the mAPs of QFloat and of the file, their difference, and the noise of another thread count."""
    graph = _graph_sha256(path)
    key = {"graph": graph, "as": "qfloat"}
    qfloat = run.evaluate(predictor, dataset, config, label="QFloat", model_key=key)
    exported = run.evaluate(engine, dataset, config, label="ONNX Runtime", model_key={"graph": graph, "as": "onnx"})
    other = 1 if run.threads > 1 else 2
    with torch_threads(other):
        noisy = run.evaluate(
            predictor, dataset, config, label=f"QFloat, threads {other}", model_key={**key, "threads": other}
        )
    drop = Baseline(qfloat.matches).drop(exported.matches)
    return {
        "map_qfloat": qfloat.metrics.map50_95,
        "map_onnx": exported.metrics.map50_95,
        **drop_results(drop, "map_difference"),
        "thread_noise": abs((noisy.metrics.map50_95 or 0.0) - (qfloat.metrics.map50_95 or 0.0)),
        "thread_counts": [run.threads, other],
    }
