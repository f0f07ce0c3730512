"""Post-training quantization of one detector: swap, collect once, apply any method."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from yoloqat.calibration import (
    Choice,
    Statistics,
    apply_method,
    calibrate_weights,
    choose_methods,
    collect_statistics,
    greedy_cover,
    image_ranges,
)
from yoloqat.calibration.cache import check_made_of, describe, file_name, find_statistics, load_named, save_statistics
from yoloqat.calibration.per_layer import CANDIDATES
from yoloqat.config import CalibrationConfig, EvalConfig, MethodSpec, QuantConfig, to_dict
from yoloqat.config.method import PER_LAYER
from yoloqat.config.sizes import ImageSize, json_size
from yoloqat.datasets import ImageRecord
from yoloqat.detectors import Detector, TorchPredictor
from yoloqat.errors import ConfigError, ModelError
from yoloqat.evaluation.scoring import check_fit
from yoloqat.pipeline.run import IMAGES, Run, images_digest, records_key
from yoloqat.results import counted


def refuse_quantized(detector: Detector) -> None:
    """Check that a detector is float.

    Raises:
        ModelError: It is quantized already.
    """
    if detector.quantization is not None:
        raise ModelError(
            f"'{detector.source.path}' is quantized already ({counted(len(detector.quantization.layers), 'layer')})",
            expected="a float model",
            hint="pass the .pt it was made from",
        )


def refuse_settings(path: Path, quant: QuantConfig, method: MethodSpec) -> None:
    """Check that none but the default settings came with a checkpoint, which is calibrated already.

    Raises:
        ConfigError: Others did, which would change nothing.
    """
    if quant != QuantConfig() or method != CalibrationConfig().method:
        raise ConfigError(
            f"quantization options came with '{path}', which is calibrated already",
            expected="them with a float model only",
            hint="leave the method and the quantization options out, or pass the .pt",
        )


class Ptq:
    """A detector with swapped layers and the statistics of its calibration images.

    Args:
        detector: A float detector; its layers are swapped in place.
        records: The calibration images, or the candidates where ``calibration.select`` is ``"range"``.
        quant: Which layers, and how.
        calibration: How many images and bins, how images and weights are chosen, and the seed for the record.
        imgsz: Side of the square letterbox in pixels, or (height, width) of another.
        batch: Images per forward.
        run: Where results go and finished parts are kept.
        histograms: File of the statistics: read where it exists, written where not. None looks for statistics of the same
            making among the results, and keeps them there.
        candidates: What the method per-layer chooses among.
        statistics: Those that were collected before on the same detector and images; None collects them when they are needed.

    Raises:
        CalibrationError: ``statistics`` are of another detector or of other images or settings.
        ModelError: The detector is quantized already, or its description does not give it.
        ConfigError: The image size is no multiple of the stride, or the patterns leave no layer to quantize.
        PatternError: An ignore pattern matches no layer.
    """

    def __init__(
        self,
        detector: Detector,
        records: Sequence[ImageRecord],
        *,
        quant: QuantConfig,
        calibration: CalibrationConfig,
        imgsz: ImageSize,
        batch: int,
        run: Run,
        histograms: Path | None = None,
        candidates: Sequence[MethodSpec] = CANDIDATES,
        statistics: Statistics | None = None,
    ) -> None:
        refuse_quantized(detector)
        detector.check_rebuildable()  # before long work whose result could not be saved
        check_fit(detector.info, EvalConfig(imgsz=imgsz, batch=batch))
        self.detector = detector
        self.layers = detector.quantize(quant)
        if not self.layers:
            raise ConfigError(
                f"ignore patterns {', '.join(quant.ignore)} leave no layer to quantize",
                expected="at least one quantized layer",
                hint="ignore fewer layers",
            )
        calibrate_weights(detector, calibration.weight_method)
        self.predictor = TorchPredictor(detector, device=run.device)
        self.imgsz, self.batch = imgsz, batch
        self.config = calibration
        self.choices: dict[str, Choice] = {}
        self.histograms = histograms
        self._candidates = tuple(candidates)
        self._run = run
        self._offered = records
        if statistics is not None:
            check_made_of(statistics, self._made_of(), "the statistics")
        self._statistics = statistics

    @cached_property
    def records(self) -> tuple[ImageRecord, ...]:
        """The calibration images; chosen among the candidates when first asked for.

        Raises:
            DataError: An image does not decode.
        """
        if self.config.select != "range":
            return tuple(self._offered)
        ranges = image_ranges(
            self.detector,
            self.predictor,
            self._offered,
            imgsz=self.imgsz,
            progress=self._run.labelled("calibrate"),
        )
        return tuple(self._offered[index] for index in sorted(greedy_cover(ranges, self.config.images)))

    @cached_property
    def _images_digest(self) -> str:
        return images_digest(self.records)

    @cached_property
    def key(self) -> dict[str, Any]:
        """What ranges depend on: the layers, who shares a scale, the images; not bits, patterns or the head as such."""
        quantization = self.detector.quantization
        return {
            "weights": self.detector.source.sha256,
            "layers": self.layers,
            "placement": None if quantization is None else quantization.placement.to_dict(),
            "images": records_key(self.records),
            "imgsz": json_size(self.imgsz),
            "batch": self.batch,
            "bins": self.config.bins,
            "sample": self.config.sample,
        }

    @property
    def statistics(self) -> Statistics:
        """The statistics of the one pass: read, found or collected when first asked for.

        Raises:
            CalibrationError: A layer's input holds NaN or Inf, or a named file holds other statistics.
            OutputError: They cannot be written.
        """
        if self._statistics is None:
            made_of = self._made_of()
            if self.histograms is not None and self.histograms.exists():
                self._statistics = load_named(self.histograms, made_of)
                return self._statistics
            found = find_statistics(made_of, self._run.out) if self.histograms is None else None
            if found is not None:
                self.histograms, self._statistics = found
            else:
                self.histograms = self.histograms or self._run.out / file_name(made_of)
                self._statistics = save_statistics(self._collected(), self.histograms, made_of)
        return self._statistics

    def _made_of(self) -> dict[str, Any]:
        return describe(self.detector, self.records, self.config, imgsz=self.imgsz, batch=self.batch)

    def _collected(self) -> Statistics:
        return collect_statistics(
            self.detector,
            self.predictor,
            self.records,
            imgsz=self.imgsz,
            batch=self.batch,
            bins=self.config.bins,
            sample=self.config.sample,
            progress=self._run.labelled("calibrate"),
        )

    def apply(self, method: MethodSpec, statistics: Statistics | None = None) -> float:
        """Set every range by ``method`` and return the seconds of the search.

        Args:
            method: How amax is found.
            statistics: Of other images than the detector's own, where these are meant.

        Raises:
            CalibrationError: A quantized layer was not reached by the calibration images.
        """
        statistics = statistics or self.statistics
        progress = self._run.labelled("calibrate")
        start = time.perf_counter()
        self.choices = {}
        if method.kind == PER_LAYER:
            self.choices = choose_methods(
                self.detector,
                self.predictor,
                statistics,
                self.records,
                methods=self._candidates,
                imgsz=self.imgsz,
                batch=self.batch,
                progress=progress,
            )
            chosen = {name: choice.method for name, choice in self.choices.items()}
            apply_method(self.detector, statistics, chosen, progress=progress)
        else:
            apply_method(self.detector, statistics, method, progress=progress)
        seconds = time.perf_counter() - start
        self.record(method)
        return seconds

    def record(self, method: MethodSpec, **more: Any) -> None:
        """Let the detector, and the checkpoint made of it, say how it was calibrated.

        Args:
            method: How amax was found.
            more: Further JSON-able entries.
        """
        if self.detector.quantization is None:
            return
        chosen = {name: str(choice.method) for name, choice in self.choices.items()}
        calibration = to_dict(replace(self.config, method=method)) | {
            "images_sha": self.key["images"],
            IMAGES: self._images_digest,
            "batch": self.batch,
            "imgsz": json_size(self.imgsz),
            **({PER_LAYER: chosen} if chosen else {}),
            **more,
        }
        self.detector.quantization = replace(self.detector.quantization, calibration=calibration)

    def model_key(self, method: str) -> dict[str, Any]:
        """Return what identifies the quantized numbers under ``method``."""
        quantization = self.detector.quantization
        config = None if quantization is None else to_dict(quantization.config)
        candidates = [str(candidate) for candidate in self._candidates] if method == PER_LAYER else None
        weights = self.config.weight_method
        return {**self.key, "quant": config, "method": method, "candidates": candidates, "weight_method": weights}

    def calibrated_on(self) -> dict[str, Any]:
        """Return the result keys that say on what the ranges rest, and what each quantizer took of several methods."""
        found: dict[str, Any] = {
            "calibration_images": self.statistics.images,
            "histograms": str(self.histograms),
            "activation_quantizers": len(self.statistics.histograms),
        }
        if self.choices:
            found["per_layer"] = {
                name: {"method": str(choice.method), "errors": choice.errors} for name, choice in self.choices.items()
            }
        return found
