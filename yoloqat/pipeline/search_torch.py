"""A calibrated checkpoint as a search of float sets takes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from yoloqat.config import EvalConfig, ExportConfig, Recipe
from yoloqat.config.sizes import ImageSize, sides
from yoloqat.datasets import ImageRecord
from yoloqat.detectors import TorchPredictor, load_detector
from yoloqat.detectors.leave_float import leave_float
from yoloqat.pipeline.export import export_onnx
from yoloqat.pipeline.finetune import check_quantized
from yoloqat.pipeline.noise_mode import run_noise_budget
from yoloqat.pipeline.recipe import recipe_of
from yoloqat.pipeline.run import Run
from yoloqat.pipeline.search_model import SizedModel
from yoloqat.pipeline.sensitivity import ScanOptions
from yoloqat.pipeline.shards import ModelFile
from yoloqat.quant import state_digest
from yoloqat.quant.graph import trace
from yoloqat.quant.graph.cost import layer_costs
from yoloqat.searching.tied import traced_steps
from yoloqat.sensitivity.settings import NOISE, ScanConfig


class SearchedCheckpoint:
    """A calibrated checkpoint.

    Args:
        path: The file, which the workers open.
        run: Device and threads.

    Attributes:
        detector: What it holds; not changed.

    Raises:
        ModelError: It cannot be loaded, or is not quantized.
    """

    def __init__(self, path: Path, run: Run) -> None:
        self.detector = load_detector(path)
        check_quantized(self.detector, path)
        quantization = self.detector.quantization
        if quantization is None:
            raise TypeError("the detector is float")
        self._path, self._run = path.absolute(), run
        self.info, self.imgsz, self.family = self.detector.info, self.detector.imgsz, self.detector.family
        self.source = {"path": self.detector.source.path, "sha256": self.detector.source.sha256}
        self.target = quantization.config.target
        self.placement, self.layers = quantization.placement, tuple(quantization.layers)
        self.state = state_digest(self.detector.module)

    def sized(self, imgsz: ImageSize) -> SizedModel:
        """Return the graph at an image size."""
        device = next(self.detector.module.parameters()).device
        example = torch.zeros(1, self.info.channels, *sides(imgsz), device=device)
        traced = trace(self.detector.module, example)
        return SizedModel(list(traced_steps(traced)), layer_costs(traced))

    def nodes(self) -> dict[str, str]:
        """Return the name of each quantized layer's node in an exported file to the layer."""
        return {name: name for name in self.layers}

    def budget(
        self, images: Sequence[ImageRecord], config: EvalConfig, *, options: ScanOptions, run: Run
    ) -> dict[str, Any]:
        """Measure the noise of each layer alone.

        Raises:
            YoloqatError: As :func:`yoloqat.pipeline.noise_mode.run_noise_budget`.
        """
        return run_noise_budget(self._path, images, config, scan=ScanConfig(mode=NOISE), options=options, run=run)

    def export(self, layers: Sequence[str], path: Path, imgsz: ImageSize) -> None:
        """Write an ONNX file in which some layers are float.

        Raises:
            ExportError: It cannot be written as QDQ.
            OutputError: The file cannot be written.
        """
        export_onnx(leave_float(self.detector, layers), path, ExportConfig(imgsz=imgsz))

    def predictor(self, layers: Sequence[str]) -> TorchPredictor:
        """Return QFloat with some layers float."""
        return TorchPredictor(leave_float(self.detector, layers), device=self._run.device)

    def file(self, layers: Sequence[str]) -> ModelFile:
        """Return the checkpoint with some layers float, as a worker opens it."""
        return ModelFile(self._path, self._run.threads, tuple(layers))

    def recipe(self, config: EvalConfig, layers: Sequence[str], **figures: Mapping[str, Any]) -> Recipe:
        """Return what calibrates the detector again with some layers float.

        Raises:
            ModelError: The detector is not calibrated.
        """
        return recipe_of(self.detector, config, run=self._run, float_layers=layers, **figures)
