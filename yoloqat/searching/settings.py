"""What a search is for."""

from __future__ import annotations

from dataclasses import dataclass

from yoloqat.config.checks import check_bool, check_fraction, check_int
from yoloqat.errors import ConfigError

GOALS = ("max_drop", "max_noise", "max_latency")


@dataclass(frozen=True)
class SearchConfig:
    """What a float set must keep to, and how many sets are built.

    Attributes:
        max_drop: The expected drop of mAP, as a share of the float model's where there are no labels; or
        max_noise: the noise d; or
        max_latency: milliseconds of one forward of one image. Exactly one of the three.
        built: Sets of the frontier that are built and measured, beside those that the goal leads to.
        rounds: Timed forwards of each engine.
        vnni: The engine will run on processors with VNNI alone, as in ``BuildConfig``.

    Raises:
        ConfigError: None or several of the three are named, or a value is out of range.
    """

    max_drop: float | None = None
    max_noise: float | None = None
    max_latency: float | None = None
    built: int = 6
    rounds: int = 60
    vnni: bool = False

    def __post_init__(self) -> None:
        """Check the values."""
        named = [name for name in GOALS if getattr(self, name) is not None]
        if len(named) != 1:
            raise ConfigError(
                f"{' and '.join(named) or 'no goal'} {'are' if named else 'is'} named",
                expected="one of `max_drop`, `max_noise` and `max_latency`",
                hint="name one",
            )
        if self.max_drop is not None:
            check_fraction("max_drop", self.max_drop)
        for name in ("max_noise", "max_latency"):
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if value is not None and not (number and 0.0 < value < float("inf")):
                raise ConfigError(f"{name} is {value!r}", expected="a number above 0", hint=f"set `{name}` to one")
        check_int("built", self.built, 2)
        check_int("rounds", self.rounds, 1)
        check_bool("vnni", self.vnni)

    @property
    def goal(self) -> tuple[str, float]:
        """The name of the one that is set, and its value."""
        return next((name, float(getattr(self, name))) for name in GOALS if getattr(self, name) is not None)
