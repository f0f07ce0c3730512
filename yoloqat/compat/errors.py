"""Errors of the namespace: yoloqat's kinds that are also the built-in kinds which scripts for NVIDIA's package catch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from yoloqat.errors import CalibrationError, ConfigError


class ArgumentTypeError(ConfigError, TypeError):
    """An argument is of a kind, or has a name, that the interface does not take."""


class ArgumentValueError(ConfigError, ValueError):
    """An argument has a value that it cannot have."""


class ArgumentIndexError(ConfigError, IndexError):
    """An axis is named that the tensor does not have."""


class MissingAttributeError(ConfigError, AttributeError):
    """A name is looked up where it is not."""


class UnsupportedError(ConfigError, NotImplementedError):
    """An argument asks for what NVIDIA's package does not do either."""


class StateError(CalibrationError, RuntimeError):
    """A quantizer or calibrator was asked for something it cannot do yet, or given what does not fit its state."""


@contextmanager
def as_runtime_errors() -> Iterator[None]:
    """Turn the core's calibration errors into the kind that is a RuntimeError too.

    Raises:
        StateError: The core raised a CalibrationError; the text is the same.
    """
    try:
        yield
    except StateError:
        raise
    except CalibrationError as error:
        raise StateError(error.what, expected=error.expected, hint=error.hint) from error
