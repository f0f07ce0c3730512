"""Any model file to a predictor."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yoloqat.config import EvalConfig
from yoloqat.config.sizes import ImageSize, checked_imgsz
from yoloqat.datasets import DetectionDataset, warn_of_names
from yoloqat.detectors import Detector, TorchPredictor, load_detector
from yoloqat.detectors.named import fetch_named, is_named
from yoloqat.engines import open_engine
from yoloqat.engines.built_in_conf import onnx_file_info
from yoloqat.engines.openvino_runtime import Hint
from yoloqat.errors import DataError, ModelError
from yoloqat.evaluation.coco import unscored
from yoloqat.evaluation.scoring import check_fit
from yoloqat.onnx_graph.file import load_onnx
from yoloqat.pipeline.run import Run
from yoloqat.pipeline.shards import TORCH_SUFFIXES
from yoloqat.predictor import ModelInfo, Predictor
from yoloqat.provenance import digest, file_sha256


@dataclass(frozen=True)
class OpenModel:
    """A model that is ready to run.

    Attributes:
        predictor: Runs it.
        imgsz: Size it was trained at or is fixed to: a side in pixels, or (height, width).
        engine: ``"torch"``, ``"onnxruntime"``, ``"openvino"`` or ``"tensorrt"``.
        key: JSON-able value that identifies the model's numbers.
        name: What it is called in tables and on progress bars.
    """

    predictor: Predictor
    imgsz: ImageSize
    engine: str
    key: dict[str, Any]
    name: str = ""


def common_size(first: OpenModel, *others: OpenModel) -> ImageSize:
    """Return the image size at which models are compared: the one that a model is fixed to, else that of the first."""
    fixed = [model.imgsz for model in (first, *others) if model.predictor.info.imgsz is not None]
    return fixed[0] if fixed else first.imgsz


def path_key(path: Path) -> dict[str, Any]:
    """Return what identifies a model file, or a directory of them."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return {
            "path": str(path),
            "sha256": digest([[str(file.relative_to(path)), file_sha256(file)] for file in files]),
        }
    return {"path": str(path), "sha256": file_sha256(path)}


def onnx_info(path: Path) -> ModelInfo:
    """Return what an ONNX file tells of its model, without an engine.

    Raises:
        ModelError: The file is missing, no ONNX, or lacks metadata.
    """
    return onnx_file_info(str(path), load_onnx(path))


def check_scoring(info: ModelInfo, dataset: DetectionDataset | None, config: EvalConfig) -> None:
    """Check that a model can be scored as asked, before work that takes long.

    Args:
        info: What is known of the model.
        dataset: The validation images, or None where nothing is scored.
        config: How to score.

    Raises:
        ConfigError: The image size does not fit the model.
        DataError: The names of classes and categories do not match, or no object counts, so that nothing can be compared.
    """
    check_fit(info, config)
    if dataset is None:
        return
    warn_of_names(dataset, info.names)
    reason = unscored(dataset)
    if reason is not None:
        raise DataError(
            f"no mAP can be compared on {dataset.labels_source}: {reason}",
            expected="annotated objects that are no crowds",
            hint="name other annotations",
        )


def _opened(detector: Detector, run: Run) -> OpenModel:
    """Return a copy of a detector ready to run: to run it may move to another device."""
    key, name = {"source": detector.source.sha256}, Path(detector.source.path).name
    return OpenModel(TorchPredictor(copy.deepcopy(detector), device=run.device), detector.imgsz, "torch", key, name)


def open_model(path: Path | Detector, run: Run, *, hint: Hint = "latency", cache_dir: Path | None = None) -> OpenModel:
    """Open any model that can be scored.

    Args:
        path: A detector, which is not changed, or a file:
            ``.pt``, ``.safetensors``, ``.onnx``, ``.engine`` or an OpenVINO directory, or the bare name of weights
            that Ultralytics offers.
        run: Device and threads.
        hint: What OpenVINO compiles for.
        cache_dir: Where OpenVINO keeps compiled models, None for nowhere.

    Raises:
        ModelError: There is no such model, or it cannot be loaded.
        EngineError: Its engine cannot run it.
    """
    if isinstance(path, Detector):
        return _opened(path, run)
    if is_named(path):
        path = fetch_named(path.name)
    if not path.exists():
        raise ModelError(
            f"model '{path}' does not exist",
            expected="a .pt, .safetensors, .onnx, .engine or an OpenVINO directory",
            hint="check the path",
        )
    if path.suffix in TORCH_SUFFIXES and path.is_file():
        detector = load_detector(path)
        return OpenModel(
            TorchPredictor(detector, device=run.device), detector.imgsz, "torch", path_key(path), path.name
        )
    predictor = open_engine(path, threads=run.threads, device=str(run.device), hint=hint, cache_dir=cache_dir)
    fixed = predictor.info.imgsz
    engine = "openvino" if path.is_dir() else "tensorrt" if path.suffix == ".engine" else "onnxruntime"
    imgsz = checked_imgsz(fixed, low=1) if fixed else 640
    return OpenModel(predictor, imgsz, engine, path_key(path), path.name)
