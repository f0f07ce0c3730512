"""The part of ``absl.logging`` that quantization scripts use, over Python's logging.

NVIDIA's package logs through Abseil, so that scripts written for it import ``absl.logging`` to quieten it. This module answers
to that name where Abseil is not installed; the verbosity applies to this namespace's own logger.
"""

from __future__ import annotations

import logging
from typing import Any

from yoloqat.compat.errors import ArgumentValueError

FATAL, ERROR, WARNING, INFO, DEBUG = -3, -2, -1, 0, 1

_LEVELS = {
    FATAL: logging.CRITICAL,
    ERROR: logging.ERROR,
    WARNING: logging.WARNING,
    INFO: logging.INFO,
    DEBUG: logging.DEBUG,
}
_LOGGER = logging.getLogger("pytorch_quantization")

debug, info, warning, error = _LOGGER.debug, _LOGGER.info, _LOGGER.warning, _LOGGER.error
fatal = _LOGGER.critical


def set_verbosity(v: int | str) -> None:
    """Log messages of this level and above.

    Args:
        v: One of the constants of this module, or its name.

    Raises:
        ArgumentValueError: It is none of them.
    """
    names = {"FATAL": FATAL, "ERROR": ERROR, "WARNING": WARNING, "INFO": INFO, "DEBUG": DEBUG}
    level = names.get(v.upper()) if isinstance(v, str) else v
    if level not in _LEVELS:
        raise ArgumentValueError(f"verbosity is {v!r}", expected=f"one of {', '.join(names)}", hint="choose one")
    _LOGGER.setLevel(_LEVELS[level])


def get_verbosity() -> int:
    """Return the constant that :func:`set_verbosity` was given, or the constant for the logger's level."""
    level = _LOGGER.getEffectiveLevel()
    return next((verbosity for verbosity, value in _LEVELS.items() if value <= level), DEBUG)


def use_absl_handler() -> None:
    """Do nothing: records go to the handlers of Python's logging."""


def log_first_n(level: int, msg: str, n: int, *args: Any) -> None:
    """Log a message at every call; ``n`` has no effect."""
    del n
    _LOGGER.log(_LEVELS.get(level, logging.INFO), msg, *args)
