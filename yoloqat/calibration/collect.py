"""The one pass over the calibration images that serves every method."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import torch

from yoloqat.calibration.statistics import Statistics
from yoloqat.config.sizes import ImageSize
from yoloqat.datasets import ImageRecord, plan_batches, read_batches
from yoloqat.detectors import Detector
from yoloqat.errors import CalibrationError
from yoloqat.predictor import Predictor
from yoloqat.progress import Progress, silent
from yoloqat.quant import activation_quantizers, collecting
from yoloqat.quant.calib import HistogramCalibrator, SharedCalibrator


def collect_statistics(
    detector: Detector,
    predictor: Predictor,
    records: Sequence[ImageRecord],
    *,
    imgsz: ImageSize,
    batch: int,
    bins: int = 8192,
    sample: int = 1,
    progress: Progress = silent,
) -> Statistics:
    """Run the calibration images through the float model and collect a histogram for every quantizer of activations.

    A quantizer that several tensors share gets the histogram of their union, each tensor counted once, and beside it one of
    each of them.

    Args:
        detector: A quantized detector; its ranges are not changed.
        predictor: Runs that detector.
        records: The calibration images.
        imgsz: Side of the square letterbox in pixels, or (height, width) of another, as for evaluation.
        batch: Images per forward.
        bins: Histogram bins per quantizer, a power of two.
        sample: Sample about every k-th element of large tensors; 1 counts all. The range is always that of all.
        progress: Called after every batch.

    Raises:
        CalibrationError: A layer's input holds NaN or Inf; the layer and the images of the batch are named.
        DataError: An image does not decode.
    """
    sharing = _sharing(detector)
    calibrators: dict[str, HistogramCalibrator] = {}
    for name, quantizer in activation_quantizers(detector.module):
        bits, unsigned = quantizer.scheme.bits, quantizer.scheme.unsigned
        if name in sharing:
            tensors = len(sharing[name])
            calibrators[name] = SharedCalibrator(tensors, bits, unsigned=unsigned, num_bins=bins, sample=sample)
        else:
            calibrators[name] = HistogramCalibrator(bits, unsigned=unsigned, num_bins=bins, sample=sample)
        quantizer._calibrator = calibrators[name]
    shared = {name: each for name, each in calibrators.items() if isinstance(each, SharedCalibrator)}
    done, begun = 0, time.perf_counter()

    def begin(*_: object) -> None:
        for calibrator in shared.values():
            calibrator.begin()

    try:
        with collecting(detector.module), ExitStack() as hooks:
            hooks.callback(detector.module.register_forward_pre_hook(begin).remove)
            plans = plan_batches(records, imgsz, batch, stride=detector.info.stride, channels=detector.info.channels)
            for batch_ in read_batches(plans):
                try:
                    predictor(batch_.images)
                    _check(detector, calibrators)
                except CalibrationError as error:
                    names = ", ".join(record.path.name for record in batch_.records)
                    raise CalibrationError(
                        f"{error.what} (batch of {names})", expected=error.expected, hint=error.hint
                    ) from error
                done += len(batch_.records)
                progress("collect statistics", done, len(records))
        histograms = {name: calibrator.histogram() for name, calibrator in calibrators.items()}
        reached = {name: histogram for name, histogram in histograms.items() if histogram is not None}
        apart = {name: calibrator.tensors() for name, calibrator in shared.items()}
        each = {name: dict(zip(sharing[name], parts, strict=True)) for name, parts in apart.items() if parts}
        return Statistics(reached, done, time.perf_counter() - begun, tensors=each)
    finally:
        for calibrator in calibrators.values():
            calibrator.reset()


def _sharing(detector: Detector) -> dict[str, list[str]]:
    """Return the owner of every scale that tensors share, to their names in the order in which they are first read."""
    groups = () if detector.quantization is None else detector.quantization.placement.groups
    return {group.owner: [tensor.name for tensor in group.tensors] for group in groups if len(group.tensors) > 1}


def _check(detector: Detector, calibrators: Mapping[str, HistogramCalibrator]) -> None:
    """Raise the deferred errors of all calibrators at once: the only wait for an accelerator in a batch.

    Raises:
        CalibrationError: A tensor held NaN or Inf; the first quantizer in the order of execution is named.
    """
    flags = {name: calibrator.flag for name, calibrator in calibrators.items()}
    put_off = {name: flag for name, flag in flags.items() if flag is not None}
    if not put_off or not bool(torch.stack(list(put_off.values())).any()):
        return
    plan = detector.quantization.placement.groups if detector.quantization is not None else ()
    order = {group.owner: index for index, group in enumerate(plan)}
    for name in sorted(put_off, key=lambda name: order.get(name, len(order))):
        try:
            calibrators[name].check()
        except CalibrationError as error:
            raise CalibrationError(f"'{name}': {error.what}", expected=error.expected, hint=error.hint) from error
