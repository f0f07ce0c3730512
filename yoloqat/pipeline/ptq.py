"""Post-training quantization of one detector: swap, collect once, apply any method."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from yoloqat.calibration import Statistics, apply_method, collect_statistics
from yoloqat.config import CalibrationConfig, EvalConfig, MethodSpec, QuantConfig, to_dict
from yoloqat.datasets import ImageRecord
from yoloqat.detectors import Detector, TorchPredictor
from yoloqat.errors import CalibrationError, ConfigError, ModelError
from yoloqat.evaluation.scoring import check_fit
from yoloqat.pipeline.run import Run, records_key


def refuse_quantized(detector: Detector) -> None:
    """Check that a detector is float.

    Raises:
        ModelError: It is quantized already.
    """
    if detector.quantization is not None:
        raise ModelError(
            f"'{detector.source.path}' is quantized already ({len(detector.quantization.layers)} layers)",
            expected="a float model",
            mend="pass the .pt it was made from",
        )


class Ptq:
    """A detector with swapped layers and the statistics of its calibration images.

    Args:
        detector: A float detector; its layers are swapped in place.
        records: The calibration images.
        quant: Which layers, and how.
        calibration: How many bins, and the seed for the record.
        imgsz: Side of the square letterbox in pixels.
        batch: Images per forward.
        run: Where finished parts are kept.

    Raises:
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
        imgsz: int,
        batch: int,
        run: Run,
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
                mend="ignore fewer layers",
            )
        self.predictor = TorchPredictor(detector, device=run.device)
        self._run = run
        self._config = calibration
        # ranges depend on the swapped layers and the images, not on bits, patterns or the head as such
        self.key = {
            "weights": detector.source.sha256,
            "layers": self.layers,
            "images": records_key(records),
            "imgsz": imgsz,
            "batch": batch,
            "bins": calibration.bins,
        }
        self._records = records
        self._imgsz, self._batch = imgsz, batch
        self._statistics: Statistics | None = None

    @property
    def statistics(self) -> Statistics:
        """The statistics of the one pass, collected when first asked for or found from an interrupted run.

        Raises:
            CalibrationError: A layer's input holds NaN or Inf.
        """
        if self._statistics is None:
            self._statistics = self._stored() or self._collected()
        return self._statistics

    def _stored(self) -> Statistics | None:
        path = self._run.part_path(self._run.key(**self.key), "statistics.npz")
        try:
            return Statistics.load(path) if path.is_file() else None
        except CalibrationError:
            return None  # a damaged part is collected again

    def _collected(self) -> Statistics:
        statistics = collect_statistics(
            self.detector,
            self.predictor,
            self._records,
            imgsz=self._imgsz,
            batch=self._batch,
            bins=self._config.bins,
            progress=self._run.labelled("calibrate"),
        )
        statistics.save(self._run.part_path(self._run.key(**self.key), "statistics.npz"))
        return statistics

    def apply(self, method: MethodSpec) -> float:
        """Set every range by ``method`` and return the seconds of the search.

        Raises:
            CalibrationError: A quantized layer was not reached by the calibration images.
        """
        statistics = self.statistics
        start = time.perf_counter()
        apply_method(self.detector, statistics, method, progress=self._run.labelled("calibrate"))
        seconds = time.perf_counter() - start
        quantization = self.detector.quantization
        if quantization is not None:
            calibration = to_dict(replace(self._config, method=method)) | {
                "images_sha": self.key["images"],
                "imgsz": self._imgsz,
            }
            self.detector.quantization = replace(quantization, calibration=calibration)
        return seconds

    def model_key(self, method: str) -> dict[str, Any]:
        """Return what identifies the quantized numbers under ``method``."""
        quantization = self.detector.quantization
        config = None if quantization is None else to_dict(quantization.config)
        return {**self.key, "quant": config, "method": method}
