"""How a TensorRT engine is built."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from yoloqat.config.checks import check_bool, check_int
from yoloqat.errors import ConfigError

LEVELS = (0, 5)
_GIB = 1024**3


@dataclass(frozen=True)
class Span:
    """Least, usual and greatest value of an open dimension; TensorRT tunes for the usual one.

    Raises:
        ConfigError: A value is below 1, or they do not rise.
    """

    low: int
    usual: int
    high: int

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("low", "usual", "high"):
            check_int(name, getattr(self, name), 1)
        if not self.low <= self.usual <= self.high:
            raise ConfigError(
                f"the span is {self.low}, {self.usual}, {self.high}",
                expected="least, usual and greatest value in rising order",
                hint="order them",
            )


@dataclass(frozen=True)
class TensorRTOptions:
    """Settings of the builder.

    Attributes:
        workspace_gib: Memory in GiB that a tactic may take for itself; None leaves TensorRT all of the device.
        optimization_level: 0 builds fastest, 5 searches longest; TensorRT's own default is 3.
        batch: Batch sizes of a file whose batch is open; None where it is fixed.
        imgsz: Sides in pixels of a file whose image size is open; None where it is fixed.
        timing_cache: File of measured tactics, which makes the next build on the same GPU faster; None keeps none.
        dla: Index of the deep learning accelerator that runs what it can, the GPU the rest; None runs all on the GPU.
        version_compatible: Let later versions of TensorRT run the engine; slower, and it carries code of its own.
        hardware_compatible: Let any GPU from Ampere on run the engine; slower.

    Raises:
        ConfigError: A value is out of range.
    """

    workspace_gib: float | None = None
    optimization_level: int = 3
    batch: Span | None = None
    imgsz: Span | None = None
    timing_cache: Path | None = None
    dla: int | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False

    def __post_init__(self) -> None:
        """Check the values."""
        check_int("optimization_level", self.optimization_level, *LEVELS)
        check_bool("version_compatible", self.version_compatible)
        check_bool("hardware_compatible", self.hardware_compatible)
        if self.dla is not None:
            check_int("dla", self.dla, 0)
        if self.workspace_gib is not None and not 0 < self.workspace_gib < 1024:
            raise ConfigError(
                f"workspace_gib is {self.workspace_gib}",
                expected="more than 0 and less than 1024",
                hint="choose e.g. 4",
            )

    @property
    def workspace_bytes(self) -> int | None:
        """The workspace in bytes."""
        return None if self.workspace_gib is None else int(self.workspace_gib * _GIB)
