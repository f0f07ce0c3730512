"""How a stage tells how far it has come, without knowing who watches.

Stages take a :class:`Progress` and never print; the command line passes one that draws bars, tests pass :func:`silent`.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable


class Progress(Protocol):
    """Receives the state of one running step."""

    def __call__(self, step: str, done: int, total: int) -> None:
        """Take note that ``done`` of ``total`` units of ``step`` are finished; ``done == total`` ends the step."""
        ...


def silent(step: str, done: int, total: int) -> None:
    """Take note of nothing: the default where nobody watches."""
    del step, done, total


@runtime_checkable
class Noting(Progress, Protocol):
    """A progress that can also show a line of text beside a step."""

    def note(self, step: str, text: str) -> None:
        """Show ``text`` beside ``step``, instead of what was shown there."""
        ...


def note(progress: Progress, step: str, text: str) -> None:
    """Show ``text`` beside ``step`` where whoever watches can."""
    if isinstance(progress, Noting):
        progress.note(step, text)


@runtime_checkable
class Telling(Progress, Protocol):
    """A progress that can also show a line that stays."""

    def tell(self, text: str) -> None:
        """Show ``text`` once."""
        ...


def tell(progress: Progress, text: str) -> None:
    """Show a line that stays where whoever watches can."""
    if isinstance(progress, Telling):
        progress.tell(text)
