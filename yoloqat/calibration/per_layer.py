"""The best method of each quantizer: the one with the least error in the outputs of the layers that read it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from yoloqat.calibration.statistics import Statistics, apply_method
from yoloqat.config import MethodSpec
from yoloqat.config.method import DEFAULT_METHODS, PER_LAYER
from yoloqat.config.sizes import ImageSize
from yoloqat.datasets import ImageRecord, plan_batches, read_batches
from yoloqat.detectors import Detector
from yoloqat.errors import CalibrationError
from yoloqat.predictor import Predictor
from yoloqat.progress import Progress, silent
from yoloqat.quant import TensorQuantizer, activation_quantizers, quantization_disabled, quantized_layers

IMAGES = 8
"""Number of calibration images used, evenly spaced over all of them."""

CANDIDATES = tuple(method for method in DEFAULT_METHODS if method.kind != PER_LAYER)
"""Default candidates."""


@dataclass(frozen=True)
class _Ranges:
    """The distinct ranges of one quantizer, and the index of each method's range."""

    ends: list[tuple[Tensor | None, Tensor | None]]
    of_method: list[int]


@dataclass(frozen=True)
class Choice:
    """The method chosen for one quantizer.

    Attributes:
        method: The method of least error; of equals the first that was named.
        errors: Text of each method to its error: the squared error over the squared size of a layer's output, summed over
            the layers that read the quantizer; of the tensor itself where no layer reads it.
    """

    method: MethodSpec
    errors: dict[str, float]


@dataclass
class _Tally:
    """Sums over the images, of one output: one squared error per method, and the squared size."""

    errors: list[Tensor] = field(default_factory=list)
    energy: Tensor | None = None

    def add(self, errors: list[Tensor], energy: Tensor) -> None:
        self.errors = [a + b for a, b in zip(self.errors, errors, strict=True)] if self.errors else errors
        self.energy = energy if self.energy is None else self.energy + energy

    def relative(self) -> list[float]:
        energy = float(self.energy) if self.energy is not None else 0.0
        return [float(error) / energy if energy else float(error) for error in self.errors]


def choose_methods(
    detector: Detector,
    predictor: Predictor,
    statistics: Statistics,
    records: Sequence[ImageRecord],
    *,
    methods: Sequence[MethodSpec] = CANDIDATES,
    imgsz: ImageSize,
    batch: int,
    images: int = IMAGES,
    progress: Progress = silent,
) -> dict[str, Choice]:
    """Choose a method for every quantizer of activations.

    At most ``images`` of the images go through the float model once. Whenever a quantized layer is reached it is run again
    on the same input, with input and weight fake-quantized, once per distinct range; so no more than one layer's output and
    its quantized output are held at a time. All other layers stay float, so that their errors have no effect.

    Args:
        detector: A quantized detector whose weights have their ranges; its activation ranges are changed.
        predictor: Runs that detector.
        statistics: Statistics collected on it.
        records: The calibration images.
        methods: Candidates.
        imgsz: Side of the square letterbox in pixels, or (height, width) of another.
        batch: Images per forward.
        images: Number of images used.
        progress: Called after every batch.

    Returns:
        Maps the name of each quantizer to its choice.

    Raises:
        CalibrationError: A quantizer was not reached, by all images or by those that are used.
        DataError: An image does not decode.
    """
    quantizers = dict(activation_quantizers(detector.module))
    ranges = {name: _Ranges([], []) for name in quantizers}
    for method in methods:
        apply_method(detector, statistics, method, progress=progress)
        for name, quantizer in quantizers.items():
            ends = (quantizer.amax, quantizer.low)
            known = [_values(entry) for entry in ranges[name].ends]
            if _values(ends) not in known:
                ranges[name].ends.append(ends)
            ranges[name].of_method.append([*known, _values(ends)].index(_values(ends)))
    name_of = {id(quantizer): name for name, quantizer in quantizers.items()}
    tallies: dict[str, dict[str, _Tally]] = {name: {} for name in quantizers}
    readers: list[tuple[str, str, nn.Module]] = [
        (name_of[id(layer._input_quantizer)], layer_name, layer)
        for layer_name, layer in quantized_layers(detector.module)
    ]
    read = {location for location, _, _ in readers}
    readers += [(name, name, quantizer) for name, quantizer in quantizers.items() if name not in read]
    chosen = records[:: max(1, len(records) // images)][:images]
    with quantization_disabled(detector.module), ExitStack() as hooks:
        for location, name, module in readers:
            tally = tallies[location].setdefault(name, _Tally())
            hook = _hook(quantizers[location], ranges[location], tally)
            hooks.callback(module.register_forward_hook(hook).remove)
        done = 0
        for batch_ in read_batches(
            plan_batches(chosen, imgsz, batch, stride=detector.info.stride, channels=detector.info.channels)
        ):
            predictor(batch_.images)
            done += len(batch_.records)
            progress("choose per layer", done, len(chosen))
    return {name: _choice(name, list(tally.values()), methods, len(chosen)) for name, tally in tallies.items()}


def _values(ends: tuple[Tensor | None, Tensor | None]) -> tuple[float | None, ...]:
    return tuple(None if end is None else float(end) for end in ends)


def _hook(quantizer: TensorQuantizer, ranges: _Ranges, tally: _Tally) -> Callable[..., None]:
    """Return a hook that runs its module again with each range and tallies the error of the output."""

    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        weights = getattr(module, "_weight_quantizer", None)
        errors = []
        with ExitStack() as kept:
            for each in [quantizer] if weights is None else [quantizer, weights]:
                kept.callback(setattr, each, "_disabled", each._disabled)
                each._disabled = False
            kept.callback(setattr, quantizer, "_amax", quantizer.amax)
            kept.callback(setattr, quantizer, "_low", quantizer.low)
            for quantizer._amax, quantizer._low in ranges.ends:
                errors.append((module.forward(*inputs) - output).float().square_().sum(dtype=torch.float64))
        tally.add([errors[index] for index in ranges.of_method], output.float().square().sum(dtype=torch.float64))

    return hook


def _choice(name: str, tallies: Sequence[_Tally], methods: Sequence[MethodSpec], images: int) -> Choice:
    reached = [tally.relative() for tally in tallies if tally.energy is not None]
    if not reached:
        raise CalibrationError(
            f"quantizer '{name}' was not reached by the {images} images to choose a method on",
            expected="every quantizer reached",
            hint="name one method for all",
        )
    sums = [sum(column) for column in zip(*reached, strict=True)]
    # an output beyond float32 has an error that is not finite
    best = min(range(len(methods)), key=lambda index: sums[index] if math.isfinite(sums[index]) else math.inf)
    return Choice(methods[best], {str(method): value for method, value in zip(methods, sums, strict=True)})
