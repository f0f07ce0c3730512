"""Learned rounding: weights, biases and ranges that bring each block nearest to the float model, without labels.

Rounding every weight to the nearest integer is not what harms the outputs least (Nagel et al., "Up or Down? Adaptive Rounding",
arXiv:2004.10568). Here every weight may move by any number of integer steps before it is rounded, which holds the choice between
the two neighbours and more; ranges of activations and biases are learned with it. Each block is drawn to what the float model
gives in its place (Li et al., "BRECQ", arXiv:2102.05426), and reads the others' values with a random half of them replaced by
the float model's, which keeps it from fitting the noise of its inputs (after Wei et al., "QDrop", arXiv:2203.05740). All blocks
learn at once: none waits for another's gradient. In the end weights are whole multiples of their scale, so that rounding to
nearest, here and in every engine, gives the learned integers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from yoloqat.config.checks import check_int, check_seed
from yoloqat.errors import CalibrationError, ConfigError
from yoloqat.progress import Progress, silent
from yoloqat.quant import forget_inference
from yoloqat.quant.graph import trace
from yoloqat.refining.blocks import Blocks, Objective, relative_errors
from yoloqat.refining.learned import Learned

WARM_UP = 20
"""Steps over which the rates rise."""


@dataclass(frozen=True)
class RoundingConfig:
    """How rounding is learned.

    Attributes:
        steps: Of the optimizer (Adam); the rates rise over the first :data:`WARM_UP` and then fall along a cosine to 0.
        batch: Images per step; every second step sees them mirrored.
        weight_rate: By about how many integer steps a weight moves in a step at first.
        bias_rate: The same of biases, in their own unit.
        range_rate: The same of the logarithms of ranges.
        float_share: How much of what a block reads of others is replaced by the float model's values, at random.
        keep_every: Steps after which the state is kept for a resume.
        judged: Images, the first ones, on which blocks are compared before and after.
        seed: Seeds order, mirroring and replacement.

    Raises:
        ConfigError: A count is below 1, a rate is not above 0, or the share is outside [0, 1].
    """

    steps: int = 300
    batch: int = 4
    weight_rate: float = 0.005
    bias_rate: float = 3e-4
    range_rate: float = 2e-3
    float_share: float = 0.5
    keep_every: int = 50
    judged: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("steps", "batch", "keep_every", "judged"):
            check_int(name, getattr(self, name), 1)
        check_seed(self.seed)
        for name in ("weight_rate", "bias_rate", "range_rate"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}", expected="a number above 0", hint=f"raise {name}")
        if not 0 <= self.float_share <= 1:
            raise ConfigError(f"float_share is {self.float_share}", expected="a number from 0 to 1", hint="take 0.5")


@dataclass(frozen=True)
class LearnedRounding:
    """What learning did.

    Attributes:
        errors: Of every block the error before and after, on the same inputs, mixed as while learning; see :meth:`Blocks.errors`.
        restored: Blocks whose error had risen, and that have their weights, biases and ranges back.
        moved: Of every layer the share of its weights whose integer changed.
        furthest: Of every layer by how many steps an integer changed at most.
    """

    errors: dict[str, tuple[float, float]]
    restored: tuple[str, ...]
    moved: dict[str, float]
    furthest: dict[str, int]


def learn_rounding(
    module: nn.Module,
    batches: Sequence[Tensor],
    *,
    config: RoundingConfig | None = None,
    objective: Objective = relative_errors,
    floating: Mapping[str, Tensor] | None = None,
    skip: Mapping[str, str] | None = None,
    found: Mapping[str, Tensor] | None = None,
    keep: Callable[[Mapping[str, Tensor]], None] | None = None,
    progress: Progress = silent,
) -> LearnedRounding:
    """Learn the rounding of a calibrated module's quantized layers, with biases and ranges, in place.

    Ranges of weights stay, those of affine quantizers, and the weights of float layers. A block whose error rises gets back what
    it had.

    Args:
        module: In evaluation mode, with its quantizers on and in the memory format that it will run in.
        batches: Images of one shape (channels, height, width), float32, on the module's device, in batches of any size.
        config: None takes the defaults.
        objective: The error of the outputs; by default their relative squared error.
        floating: The float model's parameters by name, where the module's are no longer those.
        skip: Layers to leave alone, and why; their ranges may be learned with others'.
        found: What ``keep`` was last told by an interrupted call of the same arguments.
        keep: Told of the state after every so many steps.
        progress: Told of every finished step.

    Raises:
        CalibrationError: There are no images, or the error became NaN or infinite.
        ModelError: The module cannot be traced.
    """
    config = config or RoundingConfig()
    images = [image for batch in batches for image in batch]
    if not images:
        raise CalibrationError(
            f"there are {len(images)} images to learn rounding on",
            expected="at least one",
            hint="name images to refine on",
        )
    forget_inference(module)
    size = min(config.batch, len(images))
    blocks = Blocks(module, trace(module, _stacked(images[:size])), floating or {}, objective)
    learned = Learned(module, blocks, skip or {}, (config.weight_rate, config.bias_rate, config.range_rate))
    first = 0 if not found else learned.load(found)
    order, per_pass = torch.Generator(), len(images) // size
    mixed = _Mixed(config.float_share, images[0].device)
    for step in range(first, config.steps):
        order.manual_seed(_seed(config.seed, 2 * (step // per_pass)))
        mixed.seed(_seed(config.seed, 2 * step + 1))
        chosen = torch.randperm(len(images), generator=order)[step % per_pass * size :][:size]
        batch = _stacked([images[index] for index in chosen.tolist()], mirrored=bool(step % 2))

        with torch.enable_grad():
            error = torch.stack(list(blocks.errors(batch, mixed).values())).sum()
            if not bool(torch.isfinite(error)):
                raise CalibrationError(
                    f"the error became {float(error.detach())} in step {step + 1}",
                    expected="a finite error",
                    hint="calibrate anew, or refine without this step",
                )
            error.backward()  # type: ignore[no-untyped-call]
        learned.step(_rate(step, config.steps))
        if keep is not None and ((step + 1) % config.keep_every == 0 or step + 1 == config.steps):
            keep(learned.state(step + 1))
        progress("rounding", step + 1, config.steps)
    learned.settle()
    judged = [
        _stacked(images[start : start + size]) for start in range(0, min(config.judged, len(images)) - size + 1, size)
    ]
    mixed.seed(_seed(config.seed, 2 * config.steps + 1))
    errors, restored = learned.compare(judged, mixed)
    moved, furthest = learned.moves()
    return LearnedRounding(errors, restored, moved, furthest)


class _Mixed:
    """Replaces a share of what blocks read of others by the float model's values, at random."""

    def __init__(self, share: float, device: torch.device) -> None:
        self._share, self._generator = share, torch.Generator(device)

    def seed(self, seed: int) -> None:
        self._generator.manual_seed(seed)

    def __call__(self, _: int, wanted: Tensor, given: Tensor) -> Tensor:
        drawn = torch.rand(given.shape, generator=self._generator, device=given.device)
        return torch.where(drawn < self._share, wanted, given.detach())


def _seed(seed: int, number: int) -> int:
    return seed * 1_000_003 + number


def _rate(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / WARM_UP) * 0.5 * (1.0 + math.cos(math.pi * step / steps))


def _stacked(images: Sequence[Tensor], *, mirrored: bool = False) -> Tensor:
    batch = torch.stack(list(images))
    return (batch.flip(3) if mirrored else batch).contiguous(memory_format=torch.channels_last)
