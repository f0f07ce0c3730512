"""A detector to a QDQ ONNX file, and the proof that the file computes what the detector does."""

from __future__ import annotations

import hashlib
from itertools import islice
from pathlib import Path
from typing import Any

import onnx
import torch

from yoloqat.config import EvalConfig
from yoloqat.datasets import DetectionDataset, plan_batches, read_batches
from yoloqat.detectors import Detector, TorchPredictor, torch_threads
from yoloqat.engines import OnnxPredictor
from yoloqat.errors import ConfigError
from yoloqat.export import ExportReport, export_qdq, ultralytics_metadata
from yoloqat.pipeline.drops import Baseline
from yoloqat.pipeline.parity import node_parity
from yoloqat.pipeline.run import Run
from yoloqat.quant import layer_numbers, quantization_disabled

PARITY_IMAGES = 8
SOURCE_KEY = "yoloqat_source"


def export_onnx(detector: Detector, path: Path, *, imgsz: int, batch: int, opset: int) -> ExportReport:
    """Write a detector as ONNX: QDQ where it is quantized, plain float where it is not.

    Args:
        detector: A calibrated or a float detector.
        path: The file to write.
        imgsz: Side of the input in pixels.
        batch: Batch size of the input.
        opset: Version of the standard ONNX operators.

    Raises:
        ExportError: A scheme cannot be written as QDQ, or the module cannot be traced.
        CalibrationError: A quantizer has no range yet.
        OutputError: The file cannot be written.
    """
    layers = [] if detector.quantization is None else layer_numbers(detector.module)
    metadata = ultralytics_metadata(
        detector.info,
        imgsz=(imgsz, imgsz),
        batch=batch,
        description=f"{Path(detector.source.path).stem}, {'INT8 QDQ' if layers else 'float'} by yoloqat",
        channels=int(detector.architecture["channels"]),
    )
    metadata[SOURCE_KEY] = {"path": str(Path(detector.source.path).resolve()), "sha256": detector.source.sha256}
    example = torch.zeros(batch, int(detector.architecture["channels"]), imgsz, imgsz)
    with quantization_disabled(detector.module):
        module = detector.module.to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        return export_qdq(module, layers, example, path, opset=opset, metadata=metadata)


def check_parity_images(dataset: DetectionDataset, batch: int) -> None:
    """Check that there is a whole batch of images to compare on: with none the comparison would pass whatever the file holds.

    Raises:
        ConfigError: The data set has fewer images than the batch.
    """
    if len(dataset.images) < batch:
        raise ConfigError(
            f"batch is {batch} and the data set has {len(dataset.images)} images",
            expected="at least one whole batch to compare on",
            mend=f"set --batch to {len(dataset.images)} or less",
        )


def _graph_sha256(path: Path) -> str:
    """Return the hash of an ONNX file without its metadata, whose date differs each time the same model is exported."""
    model = onnx.load(path)
    del model.metadata_props[:]
    return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()


def verify_export(
    detector: Detector, path: Path, dataset: DetectionDataset, config: EvalConfig, *, run: Run, batch: int
) -> dict[str, Any]:
    """Compare an exported file with the detector it came from, node by node and by mAP.

    The mAP difference stands beside the thread noise: the difference of the same QFloat model between two thread counts,
    where flipped roundings cascade in the same way.

    Args:
        detector: The calibrated detector.
        path: What it was exported to.
        dataset: The validation images.
        config: How to score; its batch is replaced by that of the file.
        run: Where finished parts are kept.
        batch: The file's batch size.

    Returns:
        The keys that ``export`` adds with a data set.

    Raises:
        ConfigError: The data set has fewer images than the batch.
    """
    check_parity_images(dataset, batch)
    plans = plan_batches(dataset.images, config.imgsz, batch, stride=detector.info.stride)
    full = [plan for plan in plans if len(plan.records) == batch][: max(1, PARITY_IMAGES // batch)]
    predictor = TorchPredictor(detector, device=run.device)
    nodes = node_parity(detector, path, list(islice(read_batches(full), len(full))), threads=run.threads)
    elements, different = sum(node.elements for node in nodes), sum(node.different for node in nodes)
    config = EvalConfig(**{**vars(config), "batch": batch})
    graph = _graph_sha256(path)
    key = {"graph": graph, "as": "qfloat"}
    qfloat = run.evaluate(predictor, dataset, config, label="QFloat", model_key=key)
    engine = OnnxPredictor(path, threads=run.threads)
    exported = run.evaluate(engine, dataset, config, label="ONNX Runtime", model_key={"graph": graph, "as": "onnx"})
    other = 1 if run.threads > 1 else 2
    with torch_threads(other):
        noisy = run.evaluate(
            predictor, dataset, config, label=f"QFloat, threads {other}", model_key={**key, "threads": other}
        )
    drop = Baseline(qfloat.matches).drop(exported.matches)
    return {
        "node_max_steps": max((node.max_steps for node in nodes), default=0),
        "node_flip_share": different / elements if elements else 0.0,
        "node_flip_share_worst": max((node.share for node in nodes), default=0.0),
        "nodes_compared": len(nodes),
        "nodes": [
            {"layer": node.layer, "flip_share": node.share, "max_steps": node.max_steps, "elements": node.elements}
            for node in nodes
        ],
        "map_qfloat": qfloat.metrics.map50_95,
        "map_onnx": exported.metrics.map50_95,
        "map_difference": drop.difference,
        "map_difference_ci95": [drop.low, drop.high],
        "thread_noise": abs((noisy.metrics.map50_95 or 0.0) - (qfloat.metrics.map50_95 or 0.0)),
        "thread_counts": [run.threads, other],
    }
