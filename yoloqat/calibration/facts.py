"""What is known of one quantizer: how its values lie in its range, and what another range would change."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

MOST_BINS = 64
"""Bins of the histogram in a result."""
MOST_INTEGERS = 256
"""Integers whose shares a result holds; of more, neighbours are added together."""


@dataclass(frozen=True)
class RangeOption:
    """What a range makes of a tensor.

    Attributes:
        name: The method, or what else is different.
        amax: The largest absolute value that is not clipped; of one per channel the largest.
        scale: Real value of one integer step; of one per channel the largest.
        clipped_share: Share of the values beyond the range.
        sqnr_db: Signal to quantization noise ratio in decibels; None where there is no error or no signal.
        error_ratio: Squared error over that of the present range; None where that is 0.
        absolute_ratio: Mean absolute error over that of the present range; None where that is 0.
    """

    name: str
    amax: float
    scale: float
    clipped_share: float
    sqnr_db: float | None
    error_ratio: float | None
    absolute_ratio: float | None


@dataclass(frozen=True)
class SharedTensor:
    """One of the tensors that share a scale.

    Attributes:
        name: Module and operator that make it.
        low: Smallest value, with its sign.
        high: Largest value, with its sign.
        sqnr_db: Of this tensor alone under the shared scale.
        own: A scale of its own, by the same method; its ratio is against this tensor's error under the shared scale.
    """

    name: str
    low: float
    high: float
    sqnr_db: float | None
    own: RangeOption


@dataclass(frozen=True)
class Among:
    """One quantizer among all of its kind in the model.

    Attributes:
        count: Number of quantizers.
        sqnr_rank: 1 for the lowest SQNR.
        sqnr_median_db: Median of the SQNR in decibels; None where none has one.
        zero_rank: 1 for the largest share of values that round to 0.
        zero_median: Median of these shares.
    """

    count: int
    sqnr_rank: int
    sqnr_median_db: float | None
    zero_rank: int
    zero_median: float


@dataclass(frozen=True)
class Channels:
    """The largest absolute weights of the output channels.

    Attributes:
        count: Number of channels.
        zero: How many of them are all zeros.
        median: The median of the channels that are not.
        largest: The largest.
        largest_over_median: Their ratio; None where all weights are 0.
        channel: Index of the channel that holds the largest.
    """

    count: int
    zero: int
    median: float
    largest: float
    largest_over_median: float | None
    channel: int


@dataclass(frozen=True)
class Usage:
    """How the values of a tensor use the integers of a range.

    Attributes:
        mean_square: Mean of the squared values.
        error: Mean squared error of the quantized values.
        absolute_error: Mean absolute error of the quantized values.
        sqnr_db: Their ratio in decibels; None where there is no error or no signal.
        clipped_share: Share of the values beyond the range.
        clip_error_share: Share of the squared error that these carry; 0 where there is no error.
        zero_share: Share of the values that round to the integer of 0.
        zero_error_share: Share of the squared error that these carry.
        one_share: Share of the values that round to an integer next to that of 0, one step up or down.
        beyond_third_share: Share of the values larger than a third of the range's end.
        p50_steps: Half of the absolute values are at most so many steps.
        p99_steps: 99 % of the absolute values are at most so many steps.
        reached: The lowest and the highest integer that values round to, counted from that of 0.
        integers: All integers there are, from the lowest to the highest, counted likewise.
        steps: Integer steps from 0 to the end of the range.
        entropy_bits: Entropy of the integers' absolute values.
        most_entropy_bits: What it would be if all were equally frequent.
        integer_shares: Share of the values at each absolute value of the integers, from 0; neighbours added together beyond
            :data:`MOST_INTEGERS`.
        integers_per_share: How many of them one share is the sum of.
    """

    mean_square: float
    error: float
    absolute_error: float
    sqnr_db: float | None
    clipped_share: float
    clip_error_share: float
    zero_share: float
    zero_error_share: float
    one_share: float
    beyond_third_share: float
    p50_steps: float
    p99_steps: float
    reached: tuple[int, int]
    integers: tuple[int, int]
    steps: int
    entropy_bits: float
    most_entropy_bits: float
    integer_shares: tuple[float, ...]
    integers_per_share: int


@dataclass(frozen=True)
class CompactHistogram:
    """A histogram of absolute values as a result holds it.

    Attributes:
        unit: ``"value"``, or ``"step"`` where every channel has a scale of its own.
        edges: At most :data:`MOST_BINS` + 1, evenly spaced from 0.
        shares: Share of the values in each bin; they sum to 1.
        clip: Where the range ends, in the same unit.
    """

    unit: str
    edges: tuple[float, ...]
    shares: tuple[float, ...]
    clip: float


@dataclass(frozen=True)
class QuantizerFacts:
    """What the statistics tell of one quantizer.

    Attributes:
        name: The quantizer location.
        kind: ``"activation"`` or ``"weight"``.
        bits: Bit width.
        symmetric: True for a zero-point of 0.
        per_channel: True for a scale per output channel.
        method: The calibration method that gives the present range; None where none is known to.
        count: Number of values counted.
        low: Smallest value, with its sign.
        high: Largest value, with its sign.
        amax: Upper end of the range; of one per channel the largest.
        scale: Real value of one integer step; of one per channel the largest.
        usage: How the values use the integers.
        options: What other ranges would give.
        shared: The tensors of a shared scale, each alone; empty where it is not shared or not known.
        tensor: Which of these is read here, or the only one; None for a weight.
        shared_count: Number of tensors that share the scale.
        channels: Of a weight.
        histogram: Of the absolute values.
        among: Where it stands among all activations, or among all weights.
    """

    name: str
    kind: str
    bits: int
    symmetric: bool
    per_channel: bool
    method: str | None
    count: int
    low: float
    high: float
    amax: float
    scale: float
    usage: Usage
    options: tuple[RangeOption, ...]
    histogram: CompactHistogram
    shared: tuple[SharedTensor, ...] = ()
    tensor: str | None = None
    shared_count: int = 1
    channels: Channels | None = None
    among: Among | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the facts, JSON-able."""
        return asdict(self)
