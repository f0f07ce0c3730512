"""What a stage found, as data and as tables that are shown as text, as HTML or by the command line."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from typing import TYPE_CHECKING, Any

from yoloqat.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def counted(number: int, thing: str) -> str:
    """Return a number of things, e.g. ``"1 warning"`` and ``"2 warnings"``.

    Args:
        number: How many.
        thing: The name of one, whose plural ends in s.
    """
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


@dataclass(frozen=True)
class Table:
    """A small table of texts; the columns after the first hold numbers unless ``left`` names them.

    Attributes:
        title: What it shows.
        columns: The headings.
        rows: Cells, as many in each row as there are columns.
        caption: A sentence below it.
        left: Indices of columns, beside the first, that hold words.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    left: tuple[int, ...] = ()

    def __str__(self) -> str:
        """Return the table as lines of text, without borders."""
        caption = [self.caption] if self.caption else []
        return "\n".join([self.title, *_aligned([self.columns, *self.rows], words={0, *self.left}), *caption])

    def without_empty_columns(self) -> Table:
        """Return the table without the columns, after the first, that hold nothing but dashes."""
        kept = [at for at in range(len(self.columns)) if not at or any(row[at] != "-" for row in self.rows)]
        rows = tuple(tuple(row[at] for at in kept) for row in self.rows)
        left = tuple(new for new, at in enumerate(kept) if at in self.left)
        return replace(self, columns=tuple(self.columns[at] for at in kept), rows=rows, left=left)

    def stacked(self) -> str:
        """Return the table as text in which the first cell of each row stands on a line of its own above the others."""
        lines = [self.columns, *self.rows]
        others = _aligned([line[1:] for line in lines], words={index - 1 for index in self.left})
        pairs = [text for line, rest in zip(lines, others, strict=True) for text in (line[0], f"  {rest}")]
        return "\n".join([self.title, *pairs, *([self.caption] if self.caption else [])])

    def to_html(self) -> str:
        """Return the table as an HTML ``<table>``; every text is escaped."""
        words = {0, *self.left}

        def cells(row: Sequence[str], tag: str) -> str:
            found = (
                f'<{tag} style="text-align:{"left" if index in words else "right"}">{escape(cell)}</{tag}>'
                for index, cell in enumerate(row)
            )
            return f"<tr>{''.join(found)}</tr>"

        head, body = cells(self.columns, "th"), "".join(cells(row, "td") for row in self.rows)
        caption = f"<p>{escape(self.caption)}</p>" if self.caption else ""
        return f"<div><p><b>{escape(self.title)}</b></p><table><thead>{head}</thead><tbody>{body}</tbody></table>{caption}</div>"


@dataclass(frozen=True, kw_only=True)
class Plotted(ABC):
    """What can be drawn.

    Attributes:
        drawn_by: Draws the keys that ``to_dict`` returns; None where there is nothing to see.
    """

    drawn_by: Callable[[dict[str, Any]], Figure] | None = field(default=None, repr=False, compare=False)

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return what was found, JSON-able."""

    def plot(self) -> Figure:
        """Return the picture of what was found: a matplotlib figure, which a notebook shows and ``savefig`` saves.

        Raises:
            ConfigError: There is nothing to see.
        """
        if self.drawn_by is None:
            raise ConfigError(
                f"a {type(self).__name__} with {', '.join(list(self.to_dict())[:3])} has no picture",
                expected="the result of compare_methods, noise_budget, rank_sensitivity, finetune, evaluate or bench",
                hint="print it for its tables",
            )
        return self.drawn_by(self.to_dict())


@dataclass(frozen=True, repr=False)
class Result(Plotted):
    """What a stage found: the keys of its ``result.json``, and the tables that show them.

    Attributes:
        results: The ``results`` of ``result.json``, JSON-able; not to be changed.
        tables: What a person is shown.
    """

    results: dict[str, Any]
    tables: tuple[Table, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return a copy of the results, JSON-able."""
        return copy.deepcopy(self.results)

    def __getitem__(self, key: str) -> Any:
        """Return one of the results."""
        return self.results[key]

    def __repr__(self) -> str:
        """Return the tables as text."""
        return "\n\n".join(str(table) for table in self.tables) or f"{type(self).__name__}({self.results!r})"

    def _repr_html_(self) -> str:
        """Return the tables as HTML, for notebooks."""
        return "".join(table.to_html() for table in self.tables)


def _aligned(lines: Sequence[Sequence[str]], *, words: set[int]) -> list[str]:
    """Return rows of cells as lines whose columns stand below each other, words to the left and numbers to the right."""
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if index in words else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def number(value: float | None, digits: int = 4) -> str:
    """Return a number for a table; a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def signed(value: float | None, digits: int = 4) -> str:
    """Return a difference for a table with its sign; a dash where there is none."""
    return "-" if value is None else f"{value:+.{digits}f}"


def interval(bounds: Sequence[float] | None, *, sign: bool = True) -> str:
    """Return an interval for a table, of a difference with signs; a dash where there is none."""
    if bounds is None:
        return "-"
    low, high = (signed(bound) if sign else number(bound) for bound in bounds)
    return f"[{low}, {high}]"
