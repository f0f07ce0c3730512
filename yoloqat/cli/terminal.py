"""What a person sees: progress bars on standard error, tables on standard output."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from rich import box
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Column
from rich.table import Table as RichTable
from rich.text import Text

from yoloqat.errors import OutputError, YoloqatWarning, visible
from yoloqat.progress import Progress
from yoloqat.results import Table

EVERY = 30.0
"""Seconds between two lines of a long step where no bar can be drawn."""

_SENTENCE, _BETWEEN = 20, 3
"""Characters from which a cell of words is a sentence, which may be broken; and those between two columns."""


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
def progress_bars(console: Console, *, times: bool = False) -> Iterator[Progress]:
    """Yield a progress that draws one bar per step, which stays when the step is done.

    Where the console is no terminal, nothing moves: see :func:`lines_progress`.

    Args:
        console: Where the bars are drawn.
        times: Let the lines tell how long each step took.
    """
    if not console.is_terminal:
        yield lines_progress(console, times=times)
        return
    columns = (
        TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with _NotedBars(*columns, console=console, expand=True) as bars:
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


class _NotedBars(RichProgress):
    """Bars with one line of text below them."""

    noted = ""

    def get_renderables(self) -> Iterator[RenderableType]:
        """Yield the bars and the line."""
        yield self.make_tasks_table(self.tasks)
        if self.noted:
            yield Text(f"  {self.noted}", no_wrap=True, overflow="ellipsis")


class _Bars:
    """A bar per step, with whatever is noted below them."""

    def __init__(self, bars: _NotedBars) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, step: str, done: int, total: int) -> None:
        """Draw the bar of ``step``."""
        if step not in self._tasks:
            self._tasks[step] = self._bars.add_task(step, total=total)
        self._bars.update(self._tasks[step], completed=done, total=total)
        if done >= total:
            self._bars.noted = ""

    def note(self, step: str, text: str) -> None:
        """Show ``text`` below the bars."""
        del step
        self._bars.noted = text

    def tell(self, text: str) -> None:
        """Show ``text`` above the bars."""
        self._bars.console.print(text, highlight=False, markup=False)


def lines_progress(console: Console, clock: Callable[[], float] = time.monotonic, *, times: bool = False) -> Progress:
    """Return a progress for a pipe or a file: a line as a step ends, and every :data:`EVERY` seconds while it lasts.

    Args:
        console: Where the lines go.
        clock: Gives the time in seconds.
        times: Let the last line of a step tell how long it took since its first.
    """
    return _Lines(console, clock, times)


class _Lines:
    """What :func:`lines_progress` returns."""

    def __init__(self, console: Console, clock: Callable[[], float], times: bool) -> None:
        self._console, self._clock, self._times = console, clock, times
        self._begun: dict[str, float] = {}
        self._told: dict[str, float] = {}
        self._finished: set[str] = set()

    def __call__(self, step: str, done: int, total: int) -> None:
        """Show a line where one is due."""
        now = self._clock()
        first = self._begun.setdefault(step, now)
        if step in self._finished:
            return
        if done >= total:
            self._finished.add(step)
            took = f", {now - first:.1f} s" if self._times else ""
            self.tell(f"{step} {total}/{total}{took}")
        elif now - self._told.setdefault(step, first) >= EVERY:
            self._told[step] = now
            left = f", about {(now - first) / done * (total - done):.0f} s left" if done else ""
            self.tell(f"{step} {done}/{total}{left}")

    def tell(self, text: str) -> None:
        """Show a line."""
        self._console.print(text, highlight=False, markup=False)


def shown_line(text: str) -> str:
    """Return a text as a terminal shows it: lines and tabs stay, other characters that would command it are made visible."""
    return visible(text, keep="\t\n")


def shown(table: Table, width: int) -> RenderableType:
    """Return a table as a terminal of a width shows it: numbers and names are never broken, only sentences are.

    Where the columns do not fit, the first one stands on a line of its own above the others.

    Args:
        table: What to show.
        width: Of the terminal, in characters.
    """
    table = Table(
        shown_line(table.title),
        tuple(map(shown_line, table.columns)),
        tuple(tuple(map(shown_line, row)) for row in table.rows),
        shown_line(table.caption),
        table.left,
    )
    widths = [max(map(len, cells)) for cells in zip(table.columns, *table.rows, strict=True)]
    sentences = {index for index in table.left if widths[index] > _SENTENCE}
    least = sum(_SENTENCE if index in sentences else size for index, size in enumerate(widths))
    if least + _BETWEEN * (len(widths) - 1) > width:
        return Text(table.stacked())
    made = RichTable(
        title=Text(table.title),
        title_justify="left",
        caption=Text(table.caption) if table.caption else None,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        min_width=min(len(table.title), width),
    )
    for index, column in enumerate(table.columns):
        words = index == 0 or index in table.left
        made.add_column(column, justify="left" if words else "right", no_wrap=index not in sentences)
    for row in table.rows:
        made.add_row(*map(Text, row))
    return made
