"""The checks that the settings share."""

from __future__ import annotations

from collections.abc import Sequence

from yoloqat.errors import ConfigError


def check_int(name: str, value: object, low: int, high: int | None = None) -> None:
    """Check that ``value`` is a whole number in [``low``, ``high``].

    Raises:
        ConfigError: It is not.
    """
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):  # type: ignore[operator]
        wanted = f"a whole number from {low} to {high}" if high is not None else f"a whole number of at least {low}"
        raise ConfigError(f"{name} is {value!r}", expected=wanted, hint=f"set {name} to one")


def check_seed(value: object) -> None:
    """Check that ``value`` seeds every generator in use: a whole number of 32 bits.

    Raises:
        ConfigError: It does not.
    """
    check_int("seed", value, 0, (1 << 32) - 1)


def check_power_of_two(name: str, value: int) -> None:
    """Check that a whole number is a power of two.

    Raises:
        ConfigError: It is not.
    """
    if value & (value - 1):
        raise ConfigError(f"{name} is {value}", expected="a power of two", hint="choose e.g. 4096 or 8192")


def check_bool(name: str, value: object) -> None:
    """Check that ``value`` is True or False.

    Raises:
        ConfigError: It is not.
    """
    if not isinstance(value, bool):
        raise ConfigError(f"{name} is {value!r}", expected="True or False", hint=f"set {name} to one")


def check_fraction(name: str, value: object) -> None:
    """Check that ``value`` is a number in [0, 1].

    Raises:
        ConfigError: It is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= 1.0:
        raise ConfigError(f"{name} is {value!r}", expected="a number from 0 to 1", hint=f"set {name} to one")


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Check that ``value`` is one of ``choices``.

    Raises:
        ConfigError: It is not.
    """
    if value not in choices:
        raise ConfigError(f"{name} is {value!r}", expected=f"one of {', '.join(choices)}", hint="choose one of them")
