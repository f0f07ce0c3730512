"""Errors of the namespace: yoloqat's kinds that are also the built-in kinds which scripts for NVIDIA's package catch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from yoloqat.errors import CalibrationError, ConfigError


class ArgumentTypeError(ConfigError, TypeError):
    """An argument has a type or a name that the interface does not accept."""


class ArgumentValueError(ConfigError, ValueError):
    """An argument has an invalid value."""


class ArgumentIndexError(ConfigError, IndexError):
    """The tensor has no such axis."""


class MissingAttributeError(ConfigError, AttributeError):
    """A name does not exist where it is looked up."""


class UnsupportedError(ConfigError, NotImplementedError):
    """An argument asks for a feature that NVIDIA's package lacks too."""


class StateError(CalibrationError, RuntimeError):
    """A call does not fit the state of a quantizer or calibrator."""


@contextmanager
def as_runtime_errors() -> Iterator[None]:
    """Convert the core's calibration errors to a class that is also a RuntimeError.

    Raises:
        StateError: The core raised a CalibrationError; the text is the same.
    """
    try:
        yield
    except StateError:
        raise
    except CalibrationError as error:
        raise StateError(error.what, expected=error.expected, hint=error.hint) from error
