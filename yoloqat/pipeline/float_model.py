"""What the whole way needs of a float model, whatever it is held in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from yoloqat.config import CalibrationConfig, EvalConfig, MethodSpec, QuantConfig
from yoloqat.config.sizes import ImageSize
from yoloqat.datasets import ImageRecord
from yoloqat.pipeline.run import Run
from yoloqat.pipeline.tuning import Tuning
from yoloqat.predictor import Predictor

CHECKPOINT, ONNX = "model.safetensors", "model.onnx"


@dataclass(frozen=True)
class Settings:
    """What all candidates share.

    Attributes:
        model: The float model.
        records: Calibration images.
        quant: What is quantized; a candidate ignores more.
        calibration: The method and its images.
        scoring: Image size, batch and NMS.
        refine: Steps of refinement, none for none.
        engine: The runtime to build for; None scores the exported file in ONNX Runtime as it is written.
        images: Gives the images on which ONNX Runtime's ranges are measured.
        vnni: The engine will run on processors with VNNI alone.
    """

    model: FloatModel
    records: Sequence[ImageRecord]
    quant: QuantConfig
    calibration: CalibrationConfig
    scoring: EvalConfig
    refine: tuple[str, ...]
    engine: str | None
    images: Callable[[], Sequence[ImageRecord]]
    vnni: bool = False


class FloatModel(Protocol):
    """A float model on its way to engines."""

    @property
    def source(self) -> Mapping[str, str]:
        """``path`` and ``sha256`` of its file."""

    @property
    def key(self) -> Any:
        """JSON-able value that identifies its numbers."""

    @property
    def family(self) -> str:
        """What kind of model it is."""

    @property
    def imgsz(self) -> ImageSize:
        """Its own image size in pixels."""

    @property
    def path(self) -> Path:
        """The float model in a file that every command takes."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done to read it, or guessed of it, one line each."""

    @property
    def files(self) -> tuple[str, ...]:
        """Names of what :meth:`make` writes, the calibrated model first."""

    @property
    def lacks(self) -> str | None:
        """Why it is neither refined nor fine-tuned; None where it can be."""

    def check(self, settings: Settings, run: Run) -> tuple[str, ...]:
        """Check that the settings fit, before anything is measured; return the names of the layers that are quantized."""

    def predictor(self, run: Run) -> Predictor:
        """Return what runs it."""

    def compare(
        self, settings: Settings, methods: Sequence[MethodSpec], images: Sequence[ImageRecord], run: Run
    ) -> dict[str, Any]:
        """Compare calibration methods by their noise: the results of ``compare``."""

    def make(
        self, settings: Settings, float_layers: Sequence[str], folder: Path, run: Run, tuning: Tuning | None
    ) -> dict[str, Any]:
        """Quantize it and write its ONNX file.

        Args:
            settings: What all candidates share.
            float_layers: What is left float beyond ``settings.quant``.
            folder: Takes :attr:`files`.
            run: Device, threads, who watches.
            tuning: Fine-tunes it after the calibration; None does not.

        Returns:
            ``quantized_layers``, ``export`` and ``export_failed``, and what was refined and fine-tuned.
        """

    def export(self, path: Path, imgsz: ImageSize) -> None:
        """Write it as a float ONNX file."""
