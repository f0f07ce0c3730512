"""What a stage found, as data and as tables that are shown as text, as HTML or by the command line."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any


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
        lines = [self.columns, *self.rows]
        widths = [max(len(line[index]) for line in lines) for index in range(len(self.columns))]

        def aligned(cells: Sequence[str]) -> str:
            words = {0, *self.left}
            padded = (
                cell.ljust(width) if index in words else cell.rjust(width)
                for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
            )
            return "  ".join(padded).rstrip()

        body = [aligned(self.columns), *(aligned(row) for row in self.rows)]
        return "\n".join([self.title, *body, *([self.caption] if self.caption else [])])

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


@dataclass(frozen=True, repr=False)
class Result:
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


def number(value: float | None, digits: int = 4) -> str:
    """Return a number for a table; a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def signed(value: float | None, digits: int = 4) -> str:
    """Return a difference for a table with its sign; a dash where there is none."""
    return "-" if value is None else f"{value:+.{digits}f}"


def interval(bounds: Sequence[float] | None) -> str:
    """Return an interval for a table; a dash where there is none."""
    return "-" if bounds is None else f"[{bounds[0]:+.4f}, {bounds[1]:+.4f}]"
