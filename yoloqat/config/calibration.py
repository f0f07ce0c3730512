"""Which images calibrate, and how statistics become amax."""

from __future__ import annotations

from dataclasses import dataclass, field

from yoloqat.config.checks import check_choice, check_int, check_power_of_two, check_seed
from yoloqat.config.method import MethodSpec

SELECTIONS = ("random", "first", "range")
"""Seeded random, the first by path, or those that together cover the range of every activation."""

WEIGHT_METHODS = ("max", "mse")
"""The largest absolute value, or the range of least squared error."""


@dataclass(frozen=True)
class CalibrationConfig:
    """Which images calibrate, and how statistics become amax.

    Attributes:
        method: How amax is found from what was collected.
        images: Number of calibration images, taken from the training split.
        seed: Seeds the choice of the images.
        bins: Histogram bins per quantizer, a power of two.
        select: How the images are chosen, one of :data:`SELECTIONS`.
        sample: Count about every so-many-th element of large tensors; 1 counts all.
        weight_method: How the amax of weights is found, one of :data:`WEIGHT_METHODS`.

    Raises:
        ConfigError: A value is out of range or unknown.
    """

    method: MethodSpec = field(default_factory=lambda: MethodSpec("mse"))
    images: int = 64
    seed: int = 0
    bins: int = 8192
    select: str = "random"
    sample: int = 1
    weight_method: str = "max"

    def __post_init__(self) -> None:
        """Check the values."""
        check_int("images", self.images, 1)
        check_seed(self.seed)
        check_int("bins", self.bins, 256, 1 << 20)
        check_power_of_two("bins", self.bins)
        check_int("sample", self.sample, 1)
        check_choice("select", self.select, SELECTIONS)
        check_choice("weight_method", self.weight_method, WEIGHT_METHODS)
