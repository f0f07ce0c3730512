"""Errors of the namespace: yoloqat's kinds that are also the built-in kinds which scripts for NVIDIA's package catch."""

from __future__ import annotations

from yoloqat.errors import CalibrationError, ConfigError


class ArgumentTypeError(ConfigError, TypeError):
    """An argument is of a kind, or has a name, that the interface does not take."""


class ArgumentValueError(ConfigError, ValueError):
    """An argument has a value that it cannot have."""


class StateError(CalibrationError, RuntimeError):
    """A quantizer or calibrator was asked for something it cannot do yet."""
