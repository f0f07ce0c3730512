"""One pass of the float graph over the calibration images: a histogram of what each scale is for."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper

from yoloqat.config import CalibrationConfig
from yoloqat.config.sizes import ImageSize
from yoloqat.datasets import ImageRecord, plan_batches, read_batches
from yoloqat.engines.ort import open_session, run_session, session_options
from yoloqat.errors import CalibrationError
from yoloqat.evaluation.scoring import filled
from yoloqat.onnx_graph.file import inputs_of
from yoloqat.onnx_graph.graph import copy_of
from yoloqat.onnx_quant.placement import OnnxPlacement
from yoloqat.predictor import ModelInfo
from yoloqat.progress import Progress, silent
from yoloqat.quant.calib import Histogram, HistogramCalibrator


def collect_histograms(
    model: onnx.ModelProto,
    placement: OnnxPlacement,
    records: Sequence[ImageRecord],
    *,
    info: ModelInfo,
    config: CalibrationConfig,
    imgsz: ImageSize,
    batch: int,
    threads: int,
    progress: Progress = silent,
) -> dict[str, Histogram]:
    """Run a float graph on images and return a histogram per scale, by the location that owns it.

    Args:
        model: In normal form.
        placement: Of its quantizers.
        records: The calibration images.
        info: Fixed batch and channels of the model.
        config: Bins, and how large tensors are sampled.
        imgsz: Side of the square letterbox in pixels, or (height, width).
        batch: Images per forward, where the model does not fix it.
        threads: Threads inside one operator.
        progress: Told of every finished batch.

    Raises:
        CalibrationError: A tensor holds NaN or infinity.
        DataError: An image does not decode.
        ModelError: ONNX Runtime cannot load the graph.
    """
    readers = {
        tensor.name: (group.owner, HistogramCalibrator(num_bins=config.bins, sample=config.sample))
        for group in placement.plan.groups
        for tensor in group.tensors
    }
    fed = inputs_of(model)[0].name
    inner = [name for name in readers if name != fed]
    session = open_session(
        _with_outputs(model, inner).SerializeToString(), "the float graph", session_options(threads=threads)
    )
    done = 0
    plans = plan_batches(records, imgsz, info.batch or batch, channels=info.channels)
    with closing(read_batches(plans)) as batches:
        for loaded in batches:
            images = filled(loaded.images, info.batch)
            found = (
                [images, *run_session(session, images, inner)]
                if fed in readers
                else run_session(session, images, inner)
            )
            names = [fed, *inner] if fed in readers else inner
            for name, values in zip(names, found, strict=True):
                held = values[: len(loaded.records)] if len(values) == len(images) else values
                _collect(readers[name][1], held, name)
            done += len(loaded.records)
            progress("collect", done, len(records))
    return _joined(readers)


def _collect(calibrator: HistogramCalibrator, values: NDArray[np.generic], name: str) -> None:
    try:
        calibrator.collect(torch.from_numpy(values))
    except CalibrationError as error:
        raise CalibrationError(f"tensor '{name}': {error.what}", expected=error.expected, hint=error.hint) from error


def _joined(readers: dict[str, tuple[str, HistogramCalibrator]]) -> dict[str, Histogram]:
    """Return the histogram of each scale: the sum of those of its tensors."""
    found: dict[str, Histogram] = {}
    for owner, calibrator in readers.values():
        own = calibrator.histogram()
        if own is not None:
            found[owner] = found[owner].merge(own) if owner in found else own
    return found


def _with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """Return a copy that gives the tensors ``names`` as well."""
    result = copy_of(model)
    known = {value.name for value in result.graph.output}
    result.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names if name not in known
    )
    return result
