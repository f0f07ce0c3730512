"""A loaded detector: its module and the facts that other stages need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from yoloqat.config import QuantConfig
from yoloqat.config.sizes import ImageSize
from yoloqat.detectors.quant_blocks import block_forms
from yoloqat.errors import ModelError
from yoloqat.predictor import ModelInfo
from yoloqat.quant import (
    block_locations,
    dequantized_layers,
    float_reasons,
    match_layers,
    place_quantizers,
    quantized_layers,
    remove_quantizers,
    share_quantizers,
    swap_blocks,
    swap_dequantized,
    swap_layers,
    swappable_layers,
)
from yoloqat.quant.graph import PlacementPlan
from yoloqat.results import counted

TRACED_STRIDES = 2
"""Side of the image on which the placement is planned, in strides of the model; the graph is the same at every size."""


@dataclass(frozen=True)
class Source:
    """The file that the float weights came from.

    Attributes:
        path: As the user gave it.
        sha256: Of its bytes, lower-case hex.
    """

    path: str
    sha256: str


@dataclass(frozen=True)
class Quantization:
    """Quantized layers of a detector and their settings.

    Attributes:
        config: Schemes, ignore patterns, head.
        layers: Qualified names of the quantized layers.
        placement: Quantizer locations and shared scales.
        calibration: Method, images, seed, ... of the calibration, as a JSON-able dict; empty before calibration.
    """

    config: QuantConfig
    layers: tuple[str, ...]
    placement: PlacementPlan
    calibration: dict[str, Any] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """The calibration method, or that there was none."""
        kind: str = self.calibration.get("method", {}).get("kind", "not calibrated")
        return kind


@dataclass(repr=False)
class Detector:
    """A detector with its batch-norms folded, ready to quantize, score and export.

    Attributes:
        module: Evaluation mode; images (batch, channels, height, width), float32 in [0, 1], RGB where there are three
            channels, to raw outputs.
        info: Names, stride, task.
        imgsz: Size that it was trained at: a side in pixels, or (height, width).
        family: Name of the family that rebuilds it, e.g. ``"ultralytics"``.
        architecture: The description it can be rebuilt from, JSON-able.
        source: File of the float weights.
        keep_float: Layers that stay float by default, with the reason.
        not_rebuildable: Why the architecture description does not give this module, or None when it does.
        quantization: Quantized layers and settings, or None for a float detector.
    """

    module: nn.Module
    info: ModelInfo
    imgsz: ImageSize
    family: str
    architecture: dict[str, Any]
    source: Source
    keep_float: dict[str, str] = field(default_factory=dict)
    not_rebuildable: str | None = None
    quantization: Quantization | None = None

    def __repr__(self) -> str:
        """Return the file's name, the task, the image size, and what is quantized."""
        about = f"{Path(self.source.path).name}, {self.info.task}, {self.info.classes} classes, {self.imgsz} px"
        if self.quantization is None:
            return f"Detector({about}, float)"
        bits = self.quantization.config.activations.bits
        return f"Detector({about}, {counted(len(self.quantization.layers), 'layer')} at {bits} bits, {self.quantization.method})"

    def save(self, path: str | Path) -> None:
        """Write the detector as a checkpoint, whole or not at all.

        Args:
            path: The ``.safetensors`` file.

        Raises:
            ModelError: The module cannot be rebuilt from its own architecture description.
            OutputError: The file cannot be written.
        """
        from yoloqat.detectors.checkpoint import save_checkpoint

        save_checkpoint(self, Path(path))

    def check_rebuildable(self) -> None:
        """Check that the architecture description gives this module, so that it can be saved.

        Raises:
            ModelError: It does not.
        """
        if self.not_rebuildable is not None:
            raise ModelError(
                f"'{self.source.path}' cannot be rebuilt: {self.not_rebuildable}",
                expected="a model that its own architecture description gives",
                hint="pass the checkpoint as it was trained, not pruned or changed by hand",
            )

    def quantize(self, config: QuantConfig) -> list[str]:
        """Swap the layers and blocks that ``config`` and the family's defaults leave to quantize, and share their scales.

        The placement is planned on the traced graph. Weights get their amax at once.

        Args:
            config: Schemes, recipes, patterns, head.

        Returns:
            The names of the quantized layers.

        Raises:
            PatternError: An ignore or unmerge pattern matches nothing.
            ModelError: The module cannot be traced.
        """
        floats = float_reasons(self.module, config, keep_float=self.keep_float)
        names = [name for name in swappable_layers(self.module) if name not in floats]
        blocks = block_locations(self.module, block_forms(self.family), config) if names else []
        match_layers(config.unmerge, [*(f"{name}._input_quantizer" for name in names), *blocks], option="unmerge")
        _swap(self, names, config)
        side = TRACED_STRIDES * self.info.stride
        device = next(self.module.parameters()).device
        example = torch.zeros(1, self.info.channels, side, side, device=device)
        plan = place_quantizers(self.module, example, config, floats=floats)
        names = [name for name, _ in quantized_layers(self.module)]
        _finish(self, Quantization(config, tuple(names), plan), blocks)
        return names


def apply_quantization(detector: Detector, quantization: Quantization) -> None:
    """Swap exactly the layers that ``quantization`` names, share scales as its placement says, and give weights an amax.

    Raises:
        ModelError: The detector lacks a named layer or location.
    """
    forms = block_forms(detector.family)
    blocks = block_locations(detector.module, forms, quantization.config) if quantization.layers else []
    _swap(detector, quantization.layers, quantization.config)
    fed = dequantized_layers(quantization.placement.locations)
    swap_dequantized(detector.module, fed, quantization.config)
    _finish(detector, quantization, blocks)


def _swap(detector: Detector, layers: Sequence[str], config: QuantConfig) -> None:
    swap_layers(detector.module, layers, config)
    if layers:
        swap_blocks(detector.module, block_forms(detector.family), config)


def _finish(detector: Detector, quantization: Quantization, blocks: Sequence[str]) -> None:
    remove_quantizers(detector.module, set(blocks) - set(quantization.placement.locations))
    share_quantizers(detector.module, quantization.placement.aliases)
    for _, layer in quantized_layers(detector.module):
        layer.calibrate_weight()
    detector.quantization = quantization
