"""Which images calibrate, and how statistics become amax."""

from __future__ import annotations

from dataclasses import dataclass, field

from yoloqat.config.checks import check_int, check_power_of_two
from yoloqat.config.method import MethodSpec


@dataclass(frozen=True)
class CalibrationConfig:
    """Which images calibrate, and how statistics become amax.

    Attributes:
        method: How amax is found from what was collected.
        images: Number of calibration images, taken from the training split.
        seed: Seeds the choice of the images.
        bins: Histogram bins per site, a power of two.

    Raises:
        ConfigError: A value is out of range.
    """

    method: MethodSpec = field(default_factory=lambda: MethodSpec("mse"))
    images: int = 64
    seed: int = 0
    bins: int = 8192

    def __post_init__(self) -> None:
        """Check the values."""
        check_int("images", self.images, 1)
        check_int("seed", self.seed, 0)
        check_int("bins", self.bins, 256, 1 << 20)
        check_power_of_two("bins", self.bins)
