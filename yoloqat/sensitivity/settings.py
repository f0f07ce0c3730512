"""Settings of a scan: the quantizers that it switches and the metric that it measures."""

from __future__ import annotations

from dataclasses import dataclass, field

from yoloqat.config.checks import check_choice, check_int
from yoloqat.errors import ConfigError

LEAVE_ONE_OUT, ONE_AT_A_TIME, NOISE = "leave-one-out", "one-at-a-time", "noise"
MODES = (LEAVE_ONE_OUT, ONE_AT_A_TIME, NOISE)

LAYER, QUANTIZER, BLOCK, GROUP = "layer", "quantizer", "block", "group"
GRANULARITIES = (LAYER, QUANTIZER, BLOCK, GROUP)


@dataclass(frozen=True)
class ScanConfig:
    """The quantizers that a scan switches and the metric that it measures.

    Attributes:
        mode: ``"leave-one-out"``: everything is quantized but the quantizer under test; ``"one-at-a-time"``: nothing is;
            ``"noise"``: nothing is, and the noise is measured instead of the metric.
        granularity: What is switched together: the edges of a ``"layer"``, all users of a ``"quantizer"``, a ``"block"``
            at the top level, or a ``"group"`` of :attr:`groups`.
        groups: For the granularity ``"group"``: texts ``NAME=PATTERN,PATTERN``.
        bits: Bit width of the quantizer under test. None: its own width one-at-a-time, off in leave-one-out.
        metric: A number of the evaluator, as :meth:`yoloqat.evaluation.metric.Metric.parse` reads it.

    Raises:
        ConfigError: A value is unknown or out of range, or there are groups without the granularity or the reverse.
    """

    mode: str = LEAVE_ONE_OUT
    granularity: str = LAYER
    groups: tuple[str, ...] = field(default=())
    bits: int | None = None
    metric: str = "map50_95"

    def __post_init__(self) -> None:
        """Check the values."""
        check_choice("mode", self.mode, MODES)
        check_choice("granularity", self.granularity, GRANULARITIES)
        if (self.granularity == GROUP) != bool(self.groups):
            raise ConfigError(
                f"granularity is {self.granularity!r} with {len(self.groups)} groups",
                expected=f"groups with the granularity {GROUP!r} and with no other",
                hint="write groups as NAME=PATTERN,PATTERN in `groups`",
            )
        if self.bits is not None:
            check_int("bits of the quantizer under test", self.bits, 2, 16)
