"""A float ``.pt`` on its way to engines: each calibrated, refined, fine-tuned and exported in torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from yoloqat.config import ExportConfig, MethodSpec, QuantConfig
from yoloqat.config.sizes import ImageSize
from yoloqat.datasets import ImageRecord
from yoloqat.detectors import Detector, TorchPredictor, load_checkpoint, load_detector, save_checkpoint
from yoloqat.pipeline.compare import compare_methods
from yoloqat.pipeline.export import export_onnx
from yoloqat.pipeline.export_check import export_and_check
from yoloqat.pipeline.float_model import CHECKPOINT, ONNX, Settings
from yoloqat.pipeline.ptq import Ptq, refuse_quantized
from yoloqat.pipeline.refine import refine_detector
from yoloqat.pipeline.run import Run
from yoloqat.pipeline.tuning import Tuning


class FloatCheckpoint:
    """A float model that runs in torch.

    Args:
        path: Its file.

    Raises:
        ModelError: It cannot be loaded, or is quantized already.
    """

    files = (CHECKPOINT, ONNX)
    lacks, notes = None, ()

    def __init__(self, path: Path) -> None:
        detector = load_detector(path)
        refuse_quantized(detector)
        self.path, self.imgsz, self.family = path, detector.imgsz, detector.family
        self.source = {"path": detector.source.path, "sha256": detector.source.sha256}
        self.key = detector.source.sha256

    def check(self, settings: Settings, run: Run) -> tuple[str, ...]:
        """Check that patterns and sizes fit; return the names of the layers that are quantized.

        Raises:
            ConfigError: A setting does not fit the model.
            PatternError: A pattern matches nothing.
        """
        return tuple(self._swapped(settings, settings.quant, run).layers)

    def predictor(self, run: Run) -> TorchPredictor:
        """Return what runs it."""
        return TorchPredictor(load_detector(self.path), device=run.device)

    def compare(
        self, settings: Settings, methods: Sequence[MethodSpec], images: Sequence[ImageRecord], run: Run
    ) -> dict[str, Any]:
        """Compare calibration methods by their noise."""
        ptq = self._swapped(settings, settings.quant, run)
        return compare_methods(ptq, None, methods, settings.scoring, run=run, images=images)

    def make(
        self, settings: Settings, float_layers: Sequence[str], folder: Path, run: Run, tuning: Tuning | None
    ) -> dict[str, Any]:
        """Calibrate, refine and fine-tune it, and export it."""
        quant = replace(settings.quant, ignore=(*settings.quant.ignore, *float_layers))
        detector, found = self._calibrated(settings, quant, folder, run)
        if tuning is not None:
            found |= {"finetune": tuning.tune(detector, folder / CHECKPOINT, run), "training": tuning.options}
            detector = load_checkpoint(folder / CHECKPOINT)
        exported = export_and_check(detector, folder / ONNX, ExportConfig(imgsz=settings.scoring.imgsz), run=run)
        return found | {"export": exported.to_dict(), "export_failed": exported.failed}

    def export(self, path: Path, imgsz: ImageSize) -> None:
        """Write it as a float ONNX file."""
        export_onnx(load_detector(self.path), path, ExportConfig(imgsz=imgsz))

    def _calibrated(
        self, settings: Settings, quant: QuantConfig, folder: Path, run: Run
    ) -> tuple[Detector, dict[str, Any]]:
        """Calibrate and refine the float model and save it."""
        ptq = self._swapped(settings, quant, run)
        ptq.apply(settings.calibration.method)
        found: dict[str, Any] = {"quantized_layers": len(ptq.layers)}
        if settings.refine:
            found |= refine_detector(
                ptq.detector,
                ptq.records,
                steps=settings.refine,
                imgsz=ptq.imgsz,
                batch=ptq.batch,
                run=replace(run, out=folder),
            )
        save_checkpoint(ptq.detector, folder / CHECKPOINT)
        return ptq.detector, found

    def _swapped(self, settings: Settings, quant: QuantConfig, run: Run) -> Ptq:
        """Return the float model with its layers swapped, and the calibration images."""
        return Ptq(
            load_detector(self.path),
            settings.records,
            quant=quant,
            calibration=settings.calibration,
            imgsz=settings.scoring.imgsz,
            batch=settings.scoring.batch,
            run=run,
        )
