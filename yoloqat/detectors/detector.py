"""A loaded detector: its module and all that other stages must know of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from yoloqat.config import QuantConfig
from yoloqat.errors import ModelError
from yoloqat.predictor import ModelInfo
from yoloqat.quant import quantized_layers, select_layers, swap_layers


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
    """What was quantized of a detector, and how.

    Attributes:
        config: Schemes, ignore patterns, head.
        layers: Qualified names of the quantized layers.
        calibration: What gave the ranges (method, images, seed, ...), as a JSON-able dict; empty before calibration.
    """

    config: QuantConfig
    layers: tuple[str, ...]
    calibration: dict[str, Any] = field(default_factory=dict)


@dataclass
class Detector:
    """A detector with its batch-norms folded, ready to quantize, score and export.

    Attributes:
        module: Evaluation mode; images (batch, 3, height, width), float32 RGB in [0, 1], to raw outputs.
        info: Names, stride, task.
        imgsz: Side in pixels that it was trained at.
        family: Who knows how to rebuild it, ``"ultralytics"``.
        architecture: The description it can be rebuilt from, JSON-able.
        source: Where the float weights came from.
        keep_float: Layers that stay float by default, with the reason.
        not_rebuildable: Why the architecture description does not give this module, or None when it does.
        quantization: What is quantized, or None for a float detector.
    """

    module: nn.Module
    info: ModelInfo
    imgsz: int
    family: str
    architecture: dict[str, Any]
    source: Source
    keep_float: dict[str, str] = field(default_factory=dict)
    not_rebuildable: str | None = None
    quantization: Quantization | None = None

    def check_rebuildable(self) -> None:
        """Check that the architecture description gives this module, so that it can be saved.

        Raises:
            ModelError: It does not.
        """
        if self.not_rebuildable is not None:
            raise ModelError(
                f"'{self.source.path}' cannot be rebuilt: {self.not_rebuildable}",
                expected="a model that its own architecture description gives",
                mend="pass the checkpoint as it was trained, not pruned or changed by hand",
            )

    def quantize(self, config: QuantConfig) -> list[str]:
        """Swap the layers that ``config`` and the family's defaults leave to quantize; weights get their amax at once.

        Args:
            config: Schemes, ignore patterns, head.

        Returns:
            The names of the quantized layers.

        Raises:
            PatternError: An ignore pattern matches no layer.
        """
        names = select_layers(self.module, config, keep_float=self.keep_float)
        apply_quantization(self, Quantization(config, tuple(names)))
        return names


def apply_quantization(detector: Detector, quantization: Quantization) -> None:
    """Swap exactly the layers that ``quantization`` names and give their weights an amax.

    Raises:
        ModelError: The detector lacks a named layer.
    """
    swap_layers(detector.module, quantization.layers, quantization.config)
    for _, layer in quantized_layers(detector.module):
        layer.calibrate_weight()
    detector.quantization = quantization
