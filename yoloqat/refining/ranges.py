"""Learned ranges: all activation scales together, moved by the gradient of what comes out, without labels.

A range that is best for its own tensor is not best for the model: clipping one value in a thousand may cost nothing at the
output, and the finer steps pay everywhere. What comes out says so for all ranges at once: the gradient of a loss between the
quantized and the float model's outputs moves each range by its logarithm, weights and biases stay.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from yoloqat.errors import CalibrationError
from yoloqat.progress import Progress, silent
from yoloqat.quant import TensorQuantizer, activation_quantizers, forget_inference, quantization_disabled

STEPS = 64
"""Steps of the optimizer."""

RATE = 0.015
"""By what share a range moves in one step at most, at the beginning; it falls to 0 by a cosine."""

WARM = 8
"""Steps over which the rate rises."""

KEEP_EVERY = 8
"""Steps between two calls of ``keep``."""

Loss = Callable[[Tensor, Tensor], Tensor]
"""Maps the float and the quantized model's outputs of a batch to a number that is lower where they are closer."""


@dataclass(frozen=True)
class RangeRefinement:
    """What was learned.

    Attributes:
        ranges: Of every quantizer whose range was learned, its upper end before and after.
        losses: Of every step, before it.
    """

    ranges: dict[str, tuple[float, float]]
    losses: tuple[float, ...]


def learn_ranges(
    module: nn.Module,
    teacher: nn.Module,
    batches: Sequence[Tensor],
    loss: Loss,
    *,
    steps: int = STEPS,
    seed: int = 0,
    found: Mapping[str, Tensor] | None = None,
    keep: Callable[[Mapping[str, Tensor]], None] | None = None,
    progress: Progress = silent,
) -> RangeRefinement:
    """Learn the ranges of a calibrated module's activation quantizers, in place.

    Affine ranges keep their lower end; ranges of 0 stay as they are.

    Args:
        module: In evaluation mode, with its quantizers on; returns outputs, or a tuple that begins with them.
        teacher: The float model, which returns the same.
        batches: Images of shape (batch, channels, height, width), float32, on the module's device; each is taken once per round.
        loss: What is lowered.
        steps: How many.
        seed: Orders the batches.
        found: What ``keep`` was given last by an interrupted run of the same arguments.
        keep: Told of the state after every few steps.
        progress: Told of every finished step.

    Raises:
        CalibrationError: There are no images, or a range became NaN, infinite or 0.
    """
    if not batches:
        raise CalibrationError(
            f"there are {len(batches)} batches of images to learn ranges on",
            expected="at least one",
            hint="name images to refine on",
        )
    learned = {name: quantizer for name, quantizer in activation_quantizers(module) if _learnable(quantizer)}
    if not learned:
        return RangeRefinement({}, ())
    before = {name: float(_amax(quantizer)) for name, quantizer in learned.items()}
    state = _State.begin(before) if not found else _State(dict(found))
    state.push(learned)
    forget_inference(module)
    wanted: dict[int, Tensor] = {}
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        for step in range(len(state.losses), steps):
            number = _batch(step, len(batches), seed)
            if number not in wanted:
                with torch.no_grad(), quantization_disabled(teacher):
                    wanted[number] = _outputs(teacher, batches[number]).clone()
            for quantizer in learned.values():
                _amax(quantizer).requires_grad_(True)
            with torch.enable_grad():
                value = loss(wanted[number], _outputs(module, batches[number]))
                value.backward()  # type: ignore[no-untyped-call]
            state.move(learned, float(value.detach()), _rate(step, steps))
            state.push(learned)
            if keep is not None and ((step + 1) % KEEP_EVERY == 0 or step + 1 == steps):
                keep(state.tensors)
            progress("ranges", step + 1, steps)
    finally:
        for quantizer in learned.values():
            _amax(quantizer).requires_grad_(False)
        for parameter in trained:
            parameter.requires_grad_(True)
    after = {name: float(_amax(quantizer)) for name, quantizer in learned.items()}
    return RangeRefinement({name: (before[name], after[name]) for name in learned}, tuple(state.losses.tolist()))


class _State:
    """Logarithms of the ranges and the moments of their gradients (Adam), as named tensors that can be kept."""

    DECAY = (0.9, 0.95)

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = tensors

    @classmethod
    def begin(cls, ranges: Mapping[str, float]) -> _State:
        logs = torch.tensor(list(ranges.values()), dtype=torch.float64).log()
        zero = torch.zeros_like(logs)
        return cls({"logs": logs, "first": zero, "second": zero.clone(), "losses": torch.zeros(0, dtype=torch.float64)})

    @property
    def losses(self) -> Tensor:
        return self.tensors["losses"]

    def push(self, quantizers: Mapping[str, TensorQuantizer]) -> None:
        """Set the ranges."""
        for (name, quantizer), value in zip(quantizers.items(), self.tensors["logs"].exp().tolist(), strict=True):
            if not (math.isfinite(value) and value > 0):
                raise CalibrationError(
                    f"amax of '{name}' became {value}", expected="a finite number above 0", hint="leave out this step"
                )
            if quantizer.low is None:
                quantizer.amax = value
            else:
                quantizer.set_range(float(quantizer.low), value)

    def move(self, quantizers: Mapping[str, TensorQuantizer], loss: float, rate: float) -> None:
        """Take one step along the gradients that the ranges have got."""
        gradients = [(_amax(quantizer).grad, _amax(quantizer)) for quantizer in quantizers.values()]
        # by the chain rule, the logarithm has the range's gradient times the range
        values = [0.0 if gradient is None else float(gradient * amax.detach()) for gradient, amax in gradients]
        gradient = torch.tensor(values, dtype=torch.float64)
        step = len(self.losses) + 1
        first, second = self.DECAY
        kept = self.tensors
        kept["first"] = first * kept["first"] + (1 - first) * gradient
        kept["second"] = second * kept["second"] + (1 - second) * gradient.square()
        root = (kept["second"] / (1 - second**step)).sqrt()
        direction = kept["first"] / (1 - first**step) / root.clamp_min(torch.finfo(root.dtype).tiny)
        kept["logs"] = kept["logs"] - rate * direction
        kept["losses"] = torch.cat([kept["losses"], torch.tensor([loss], dtype=torch.float64)])


def _learnable(quantizer: TensorQuantizer) -> bool:
    active = not quantizer._disabled and quantizer._if_quant
    return active and quantizer.amax is not None and float(quantizer.amax) > 0


def _amax(quantizer: TensorQuantizer) -> Tensor:
    assert quantizer.amax is not None  # noqa: S101 - those without a range are left out
    return quantizer.amax


def _outputs(module: nn.Module, images: Tensor) -> Tensor:
    found = module(images)
    outputs: Tensor = found[0] if isinstance(found, tuple | list) else found
    return outputs


def _batch(step: int, batches: int, seed: int) -> int:
    """Return which batch a step takes: every round takes each of them once, in an order of its own."""
    generator = torch.Generator().manual_seed(seed + step // batches)
    return int(torch.randperm(batches, generator=generator)[step % batches])


def _rate(step: int, steps: int) -> float:
    return RATE * min(1.0, (step + 1) / WARM) * 0.5 * (1.0 + math.cos(math.pi * step / steps))
