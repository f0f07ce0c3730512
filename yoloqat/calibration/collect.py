"""The one pass over the calibration images that serves every method."""

from __future__ import annotations

import time
from collections.abc import Sequence

from yoloqat.calibration.statistics import Statistics
from yoloqat.datasets import ImageRecord, plan_batches, read_batches
from yoloqat.detectors import Detector
from yoloqat.errors import CalibrationError
from yoloqat.predictor import Predictor
from yoloqat.progress import Progress, silent
from yoloqat.quant import collecting, quantized_layers
from yoloqat.quant.calib import HistogramCalibrator


def collect_statistics(
    detector: Detector,
    predictor: Predictor,
    records: Sequence[ImageRecord],
    *,
    imgsz: int,
    batch: int,
    bins: int = 8192,
    progress: Progress = silent,
) -> Statistics:
    """Run the calibration images through the float model and collect a histogram of every quantized layer's input.

    Args:
        detector: A quantized detector; its ranges are not changed.
        predictor: Runs that detector.
        records: The calibration images.
        imgsz: Side of the square letterbox in pixels, as for evaluation.
        batch: Images per forward.
        bins: Histogram bins per site, a power of two.
        progress: Told of every finished batch.

    Raises:
        CalibrationError: A layer's input holds NaN or Inf; the layer and the images of the batch are named.
        DataError: An image does not decode.
    """
    layers = dict(quantized_layers(detector.module))
    for layer in layers.values():
        scheme = layer._input_quantizer.scheme
        layer._input_quantizer._calibrator = HistogramCalibrator(scheme.bits, unsigned=scheme.unsigned, num_bins=bins)
    start, done = time.perf_counter(), 0
    with collecting(detector.module):
        for batch_ in read_batches(plan_batches(records, imgsz, batch, stride=detector.info.stride)):
            try:
                predictor(batch_.images)
            except CalibrationError as error:
                names = ", ".join(record.path.name for record in batch_.records)
                raise CalibrationError(
                    f"{error.what} (batch of {names})", expected=error.expected, mend=error.mend
                ) from error
            done += len(batch_.records)
            progress("collect statistics", done, len(records))
    seconds = time.perf_counter() - start
    histograms = {}
    for name, layer in layers.items():
        calibrator = layer._input_quantizer._calibrator
        histogram = calibrator.histogram() if isinstance(calibrator, HistogramCalibrator) else None
        if histogram is not None:
            histograms[name] = histogram
        calibrator.reset()
    return Statistics(histograms, done, seconds)
