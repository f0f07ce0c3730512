"""A torch detector as a predictor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from yoloqat.detectors.detector import Detector
from yoloqat.errors import ConfigError
from yoloqat.predictor import Images, ModelInfo, RawOutputs
from yoloqat.quant import check_ranges, quantizers

_DIGITS = 9
"""Digits of the longest device index; Python refuses to parse integers of some thousand digits."""


def torch_device(name: str) -> torch.device:
    """Return the device of a name.

    Args:
        name: ``"cpu"``, the index of a CUDA device, e.g. ``"0"``, or ``"auto"`` for the first where there is one.

    Raises:
        ConfigError: There is no such device.
    """
    count = torch.cuda.device_count()
    if name == "cpu" or (name == "auto" and not count):
        return torch.device("cpu")
    if name == "auto":
        return torch.device("cuda", 0)
    index = name.removeprefix("cuda:")
    if index.isdecimal() and len(index) <= _DIGITS and int(index) < count:
        return torch.device("cuda", int(index))
    raise ConfigError(
        f"device is '{name:.120}'",
        expected=f"auto, cpu or a CUDA index below {count}" if count else "auto or cpu: torch sees no GPU here",
        hint="name a device that is there",
    )


@contextmanager
def torch_threads(threads: int | None) -> Iterator[int]:
    """Use ``threads`` threads inside torch's operators within the block; None changes nothing.

    Yields:
        The number in force.
    """
    kept = torch.get_num_threads()
    try:
        if threads is not None:
            torch.set_num_threads(threads)
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(kept)


CPU_PIXELS = 2 * 640 * 640
"""Pixels that go through a CPU at once: the activations of more than two images at 640 leave the caches and are allocated
anew for every layer, which slows the forward by a fifth and fake quantization by more."""


def forward_parts(shape: tuple[int, ...], device: torch.device) -> list[slice]:
    """Return the images of a batch that go through the module together.

    Args:
        shape: Of the batch: (images, channels, height, width).
        device: A CPU takes at most :data:`CPU_PIXELS` at once, other devices the whole batch.
    """
    size = max(1, CPU_PIXELS // (shape[2] * shape[3])) if device.type == "cpu" else max(1, shape[0])
    return [slice(start, min(start + size, shape[0])) for start in range(0, shape[0], size)]


class TorchPredictor:
    """Runs a detector in torch, with the quantizer switches at the time of each call.

    On a CPU a batch goes through in parts of at most :data:`CPU_PIXELS`, always cut in the same places.

    Args:
        detector: The detector; its module is moved to the device, with channels last, which is faster on CPU and GPU.
        device: Device that it runs on.

    Raises:
        CalibrationError: The range of a quantizer is NaN, infinite or on the wrong side of 0.
    """

    def __init__(self, detector: Detector, *, device: torch.device | None = None) -> None:
        check_ranges(detector.module, f"'{detector.source.path}'")
        self._device = device or torch.device("cpu")
        self._module = detector.module.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._info = detector.info

    @property
    def info(self) -> ModelInfo:
        """Names, stride and task of the detector."""
        return self._info

    @property
    def quantized(self) -> bool:
        """True when the detector has quantizers, switched on or off."""
        return next(quantizers(self._module), None) is not None

    def __call__(self, images: Images) -> RawOutputs:
        """Run the detector once on a batch."""
        parts = [self._forward(images[part]) for part in forward_parts(images.shape, self._device)]
        if len(parts) == 1:
            return parts[0]
        return [np.concatenate(pieces) for pieces in zip(*parts, strict=True)]

    def _forward(self, images: Images) -> RawOutputs:
        with torch.inference_mode():
            batch = torch.from_numpy(images).to(self._device, memory_format=torch.channels_last)
            outputs = self._module(batch)
        if not isinstance(outputs, list | tuple):
            outputs = [outputs]
        return [output.float().cpu().numpy() for output in outputs if isinstance(output, torch.Tensor)]
