"""A choice of calibration images that covers the range of every activation."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from yoloqat.config.checks import check_int
from yoloqat.config.sizes import ImageSize
from yoloqat.datasets import ImageRecord, plan_batches, read_batches
from yoloqat.detectors import Detector
from yoloqat.predictor import Predictor
from yoloqat.progress import Progress, silent
from yoloqat.quant import activation_quantizers, quantization_disabled
from yoloqat.quant.functional import reduce_amax


def image_ranges(
    detector: Detector,
    predictor: Predictor,
    records: Sequence[ImageRecord],
    *,
    imgsz: ImageSize,
    progress: Progress = silent,
) -> NDArray[np.float32]:
    """Return the largest absolute value of each image at each activation quantizer in the float model.

    Args:
        detector: A quantized detector; it is not changed.
        predictor: Runs that detector, on one image at a time.
        records: The images.
        imgsz: Side of the square letterbox in pixels, or (height, width) of another.
        progress: Called after every image.

    Returns:
        Shape (images, quantizers), in the order of ``records`` and of the module's quantizers; 0 where a quantizer is not
        reached.

    Raises:
        DataError: An image does not decode.
    """
    quantizers = [quantizer for _, quantizer in activation_quantizers(detector.module)]
    largest: dict[int, Tensor] = {}

    def watch(quantizer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        amax = reduce_amax(inputs[0]).float()
        former = largest.get(id(quantizer))
        largest[id(quantizer)] = amax if former is None else torch.maximum(former, amax)

    nothing = torch.zeros((), device=next(detector.module.parameters()).device)
    rows: list[NDArray[np.float32]] = []
    with quantization_disabled(detector.module), ExitStack() as hooks:
        for quantizer in quantizers:
            hooks.callback(quantizer.register_forward_pre_hook(watch).remove)
        for image in read_batches(
            plan_batches(records, imgsz, 1, stride=detector.info.stride, channels=detector.info.channels)
        ):
            predictor(image.images)
            found = [largest.get(id(quantizer), nothing) for quantizer in quantizers]
            rows.append(torch.stack(found).cpu().numpy())
            largest.clear()
            progress("ranges of candidates", len(rows), len(records))
    return np.stack(rows)


def greedy_cover(ranges: NDArray[np.float32], count: int) -> list[int]:
    """Choose images that together reach close to the largest values of all quantizers.

    Greedy maximization of the covered share: the mean over quantizers of the largest value among the chosen images over the
    largest among all. It is monotone and submodular, so that the greedy choice has at least 1 - 1/e of the best possible
    (Nemhauser, Wolsey, Fisher, "An analysis of approximations for maximizing submodular set functions", 1978). Of equal
    gains the first image is taken; once everything is covered, so are the following.

    Args:
        ranges: Largest absolute value of each quantizer, shape (images, quantizers).
        count: Number of images to choose, at most all.

    Returns:
        Rows of ``ranges``, in the order in which they were chosen.

    Raises:
        ConfigError: ``count`` is not from 1 to the number of images.
    """
    check_int("count", count, 1, len(ranges))
    top = ranges.max(axis=0)
    shares = ranges.astype(np.float64) / np.where(top > 0, top, 1.0)
    covered = np.zeros(ranges.shape[1])
    left = np.ones(len(ranges), bool)
    chosen: list[int] = []
    for _ in range(count):
        gains = np.where(left, np.maximum(shares - covered, 0.0).sum(axis=1), -1.0)
        best = int(np.argmax(gains))
        chosen.append(best)
        left[best] = False
        covered = np.maximum(covered, shares[best])
    return chosen
