"""What a search of float sets needs of a quantized model, whatever it is held in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from yoloqat.config import EvalConfig, Recipe
from yoloqat.config.sizes import ImageSize
from yoloqat.datasets import ImageRecord
from yoloqat.pipeline.run import Run
from yoloqat.pipeline.sensitivity import ScanOptions
from yoloqat.pipeline.shards import ModelFile
from yoloqat.predictor import ModelInfo, Predictor
from yoloqat.quant.graph import PlacementPlan
from yoloqat.quant.graph.cost import LayerCost
from yoloqat.searching.tied import Step


@dataclass(frozen=True)
class SizedModel:
    """A model's graph at the shape of one image.

    Attributes:
        steps: Its nodes, in the order of execution.
        costs: Its layers and matrix products.
    """

    steps: Sequence[Step]
    costs: Sequence[LayerCost]


class SearchedModel(Protocol):
    """A calibrated model, some of whose quantized layers can be left float."""

    @property
    def info(self) -> ModelInfo:
        """Names of the classes, channels and fixed shapes."""

    @property
    def imgsz(self) -> ImageSize:
        """Its own image size in pixels."""

    @property
    def source(self) -> Mapping[str, str]:
        """``path`` and ``sha256`` of the float model that was calibrated."""

    @property
    def family(self) -> str:
        """What kind of model it is."""

    @property
    def target(self) -> str | None:
        """The engine that it was calibrated for."""

    @property
    def placement(self) -> PlacementPlan:
        """Who shares a scale."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the quantized layers."""

    @property
    def state(self) -> str:
        """Digest of weights and ranges, as the noise budget tells it."""

    def sized(self, imgsz: ImageSize) -> SizedModel:
        """Return the graph at an image size."""

    def nodes(self) -> Mapping[str, str]:
        """Return the name of each quantized layer's nodes in an exported file to the layer."""

    def budget(
        self, images: Sequence[ImageRecord], config: EvalConfig, *, options: ScanOptions, run: Run
    ) -> dict[str, Any]:
        """Measure the noise of each layer alone: the results of ``sensitivity --mode noise``."""

    def export(self, layers: Sequence[str], path: Path, imgsz: ImageSize) -> None:
        """Write an ONNX file in which some layers are float; with all of them everything is."""

    def predictor(self, layers: Sequence[str]) -> Predictor:
        """Return QFloat with some layers float; with all of them the float model."""

    def file(self, layers: Sequence[str]) -> ModelFile:
        """Return the file of :meth:`predictor`'s model, as a worker opens it."""

    def recipe(self, config: EvalConfig, layers: Sequence[str], **figures: Mapping[str, Any]) -> Recipe:
        """Return what calibrates the model again with some layers float.

        Args:
            config: Gives the batch where the model does not tell it.
            layers: The float ones.
            figures: ``predicted`` and ``measured``.
        """
