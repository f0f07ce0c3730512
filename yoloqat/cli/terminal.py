"""What a person sees: progress bars on standard error, tables on standard output."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Table

from yoloqat.errors import OutputError, YoloqatWarning
from yoloqat.progress import Progress


class Screen(Console):
    """A console whose reader may leave, as `head` does: the command goes on, for its results, and shows nothing more."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Show objects as rich does.

        Raises:
            OutputError: Standard output cannot be written, e.g. to a full disk.
        """
        try:
            super().print(*objects, **options)
        except OSError as error:
            self.quiet = True
            if not self.stderr:
                raise OutputError(
                    f"cannot write to standard output ({error.strerror})",
                    expected="a terminal, a pipe or a file with free space",
                    hint="free space there; the results are in --out",
                ) from error

    def on_broken_pipe(self) -> None:
        """Let what is still to be shown go nowhere."""
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.file.fileno())
        os.close(nowhere)


@contextmanager
def progress_bars(console: Console) -> Iterator[Progress]:
    """Yield a progress that draws one bar per step, which stays when the step is done.

    Where the console is no terminal, nothing moves: a line is written as each step ends.
    """
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=console) as bars:
        yield _Bars(bars)


@contextmanager
def shown_warnings(console: Console, command: str) -> Iterator[list[str]]:
    """Show each :class:`YoloqatWarning` once, as one line, and yield the list that they are added to.

    Args:
        console: Where they are shown.
        command: Begins the lines.
    """
    found: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always", YoloqatWarning)
        usual = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if not issubclass(category, YoloqatWarning):
                usual(message, category, filename, lineno, file, line)
            elif str(message) not in found:
                found.append(str(message))
                line = f"{command}: warning: {message}"
                console.print(line, markup=False, emoji=False, highlight=False, soft_wrap=True)

        warnings.showwarning = show
        yield found


class _Bars:
    """A bar per step, with whatever is noted beside it."""

    def __init__(self, bars: RichProgress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, step: str, done: int, total: int) -> None:
        """Draw the bar of ``step``."""
        if step not in self._tasks:
            self._tasks[step] = self._bars.add_task(step, total=total)
        self._bars.update(self._tasks[step], completed=done, total=total)

    def note(self, step: str, text: str) -> None:
        """Show ``text`` under the bar of ``step``."""
        if step in self._tasks:
            self._bars.update(self._tasks[step], description=f"{step}\n  {text}" if text else step)


def _lines(console: Console) -> Progress:
    finished: set[str] = set()

    def progress(step: str, done: int, total: int) -> None:
        if done >= total and step not in finished:
            finished.add(step)
            console.print(f"{step} {total}/{total}", highlight=False)

    return progress


def table(title: str, *columns: str) -> Table:
    """Return an empty table whose columns after the first are numbers, set flush right."""
    made = Table(title=title, title_justify="left", min_width=min(len(title), 76))
    for index, column in enumerate(columns):
        made.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    return made


def number(value: float | None, digits: int = 4) -> str:
    """Return a number for a table; a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def interval(bounds: list[float] | None) -> str:
    """Return an interval for a table; a dash where there is none."""
    return "-" if bounds is None else f"[{bounds[0]:+.4f}, {bounds[1]:+.4f}]"
