"""What a float set is chosen by: the noise that each choice takes away, and the latency that it and its borders cost."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from yoloqat.config.checks import check_int
from yoloqat.errors import ConfigError


@dataclass(frozen=True)
class Choice:
    """Layers that are left in floating point together or not at all, because their inputs share a scale.

    Attributes:
        layers: Their names.
        share: What they make of the sum of the squares of all noises, from 0 to 1.
        float_ms: Milliseconds that one forward takes longer where they are float; less than 0 where float is faster.
    """

    layers: tuple[str, ...]
    share: float
    float_ms: float


@dataclass(frozen=True)
class Border:
    """A tensor between two choices; where one of them is float and the other is not, it is converted.

    Attributes:
        first: Index of the choice whose layer writes the tensor; None for what is float in every case.
        second: Index of the choice whose layers read it; None as above.
        ms: Milliseconds of the conversion.
    """

    first: int | None
    second: int | None
    ms: float


@dataclass(frozen=True)
class FloatSet:
    """Some choices left in floating point.

    Attributes:
        chosen: Their indices.
        layers: The layers, in the order of the choices.
        d: The noise that is predicted.
        latency_ms: The latency that is predicted.
    """

    chosen: frozenset[int]
    layers: tuple[str, ...]
    d: float
    latency_ms: float


@dataclass(frozen=True)
class Problem:
    """All that the choice of a float set rests on.

    Attributes:
        choices: What can be left in floating point.
        borders: Tensors between them.
        d: The noise with every layer in INT8.
        latency_ms: The latency with every layer in INT8, the conversions at the borders to what is always float included.

    Raises:
        ConfigError: A figure is no number, a share is negative, or a border names no choice.
    """

    choices: tuple[Choice, ...]
    borders: tuple[Border, ...]
    d: float
    latency_ms: float

    def __post_init__(self) -> None:
        """Check the figures."""
        for name, value, low in (
            ("d", self.d, 0.0),
            ("latency_ms", self.latency_ms, 0.0),
            *((f"share of {choice.layers}", choice.share, 0.0) for choice in self.choices),
            *((f"float_ms of {choice.layers}", choice.float_ms, -math.inf) for choice in self.choices),
            *((f"ms of border {number}", border.ms, 0.0) for number, border in enumerate(self.borders)),
        ):
            if not math.isfinite(value) or value < low:
                raise ConfigError(
                    f"{name} is {value}", expected="a number, not negative but for float_ms", hint="measure it"
                )
        for border in self.borders:
            for end in (border.first, border.second):
                if end is not None:
                    check_int("end of a border", end, 0, len(self.choices) - 1)

    def float_set(self, chosen: Collection[int]) -> FloatSet:
        """Return what is predicted where some choices are float.

        Args:
            chosen: Their indices.
        """
        known = frozenset(chosen)
        left = 1.0 - sum(self.choices[index].share for index in sorted(known))
        latency = self.latency_ms + sum(self.choices[index].float_ms for index in sorted(known))
        latency += crossed(self.borders, known) - crossed(self.borders, ())
        layers = tuple(layer for index in sorted(known) for layer in self.choices[index].layers)
        return FloatSet(known, layers, self.d * math.sqrt(max(left, 0.0)), latency)


def crossed(borders: Iterable[Border], chosen: Collection[int]) -> float:
    """Return the milliseconds of the borders where one side is float and the other is not.

    Args:
        borders: Tensors between choices.
        chosen: Indices of the choices that are float.
    """
    return sum(
        border.ms
        for border in borders
        if (border.first is None or border.first in chosen) != (border.second is None or border.second in chosen)
    )
