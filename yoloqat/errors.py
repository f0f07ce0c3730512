"""The errors a user can meet, each naming the value, what was expected, and the hint.

Every error that a user's input can cause derives from :class:`YoloqatError`; the command line turns it into one line on
standard error and into :attr:`YoloqatError.exit_code`. Anything else that escapes is a defect of yoloqat itself.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

LONGEST_WORD = 500
"""Characters of a word, such as a path, that a message shows."""
PARAMETER = re.compile(r"`((?:[A-Z]\w*\.)?[a-z_]\w*)(?:=([^`]*))?`")
"""A parameter of the Python API in a text: its name, after its class where the name alone is not clear, and its value."""


class YoloqatError(Exception):
    """A mistake that the user can fix, told in one line.

    Args:
        what: The offending value, named, e.g. ``"weights 'yolo.pt' do not exist"``.
        expected: What was expected instead.
        hint: What to do about it, as an imperative.

    Where ``expected`` and ``hint`` name parameters of the Python API, backticks mark them: ``"set `imgsz` to 640"``,
    ``"write `ray=local`"``, ``"lower `SupervisionConfig.rates`"``. The message is shown without the marks; the command line
    shows its own options instead.
    """

    exit_code = 2

    def __init__(self, what: str, *, expected: str, hint: str) -> None:
        self.what = what
        self.expected = expected
        self.hint = hint
        super().__init__(f"{what}; expected {expected}; {hint}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the class and the three parts, so that an error travels whole between processes."""
        return partial(type(self), expected=self.expected, hint=self.hint), (self.what,)

    def __str__(self) -> str:
        """Return the message as a single line, whatever the interpolated values hold."""
        return self.told(lambda _: None)

    def told(self, option_of: Callable[[str], str | None]) -> str:
        """Return the message as a single line that names options of a command line in place of parameters.

        Args:
            option_of: Returns the option that sets a parameter; one that has none is named as it is.
        """
        expected, hint = (with_options(text, option_of) for text in (self.expected, self.hint))
        return one_line(f"{self.what}; expected {expected}; {hint}")


def with_options(text: str, option_of: Callable[[str], str | None]) -> str:
    """Return a text that names options of a command line in place of the parameters that backticks mark.

    Args:
        text: What to tell.
        option_of: Returns the option that sets a parameter; one that has none is named as it is.
    """

    def named(found: re.Match[str]) -> str:
        name, value = found.groups()
        option = option_of(name)
        if value is None:
            return option or name
        return f"{name}={value}" if option is None else f"{option} {value}"

    return PARAMETER.sub(named, text)


class YoloqatWarning(UserWarning):
    """Something is read otherwise than it may be meant; the command line shows it in one line and keeps it in the result."""


def warn(what: str) -> None:
    """Issue a :class:`YoloqatWarning` in one line that says what was found and what is made of it."""
    warnings.warn(one_line(what), YoloqatWarning, stacklevel=3)


def one_line(text: str) -> str:
    """Return a text as a single line of characters that show, words of more than 500 characters cut short."""
    words = (word if len(word) <= LONGEST_WORD else f"{word[:LONGEST_WORD]}..." for word in text.split())
    return visible(" ".join(words))


def visible(text: str, keep: str = "") -> str:
    """Return a text whose characters all show: those that would command a terminal as escapes, as Python has.

    Args:
        text: What to show; names in a model file may hold any character.
        keep: Characters that stay as they are, such as the ends of lines.
    """
    return "".join(
        character if character.isprintable() or character in keep else ascii(character)[1:-1] for character in text
    )


class ConfigError(YoloqatError):
    """A setting has a value that it cannot have."""


class PatternError(YoloqatError):
    """An ignore pattern is malformed or matches no layer."""


class ModelError(YoloqatError):
    """A model file is missing, unreadable, of an unknown kind, or cannot be quantized."""


class DataError(YoloqatError):
    """A data set, annotation file or image is missing, unreadable, empty or inconsistent."""


class CalibrationError(YoloqatError):
    """Calibration met values it cannot use, such as NaN, or was asked for an amax before it saw data."""


class ExportError(YoloqatError):
    """A model cannot be exported, or an exported graph lacks what a pass requires."""


class EngineError(YoloqatError):
    """An engine cannot be built, loaded or run."""


class DependencyError(YoloqatError):
    """An optional package that the request needs is not installed."""


class OutputError(YoloqatError):
    """A result cannot be written, e.g. because the disk is full; nothing half-written is left behind."""


class CheckFailedError(YoloqatError):
    """A check that the user asked for did not pass (exit code 1)."""

    exit_code = 1
