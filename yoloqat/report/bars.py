"""A bar chart of values with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from yoloqat.report.picture import Picture

MOST_BARS = 80
"""Bars that are still legible; the rest is left out and counted in the title."""

_DECIDED, _UNDECIDED, _LINE = "#2563a6", "#b8c4d0", "#333333"


@dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes:
        name: Its label.
        value: Its length.
        low: Lower end of its interval.
        high: Upper end; both are infinite where there is none.
    """

    name: str
    value: float
    low: float
    high: float

    @property
    def decided(self) -> bool:
        """True where the interval does not hold zero."""
        return self.low > 0 or self.high < 0


def draw_bars(bars: Sequence[Bar], *, title: str, axis: str) -> Picture:
    """Return a chart of horizontal bars, the first on top; bars whose interval holds zero are pale.

    Args:
        bars: In the order they are shown.
        title: Above the chart.
        axis: What the lengths are.
    """
    figure = Picture(9.0, 1.3 + 0.19 * max(min(len(bars), MOST_BARS), 3))
    fill_bars(figure.add_subplot(), bars, title=title, axis=axis)
    return figure


def fill_bars(axes: Axes, bars: Sequence[Bar], *, title: str, axis: str) -> None:
    """Draw horizontal bars as :func:`draw_bars` does, into a part of a figure."""
    shown = list(bars[:MOST_BARS])
    left_out = len(bars) - len(shown)
    rows = range(len(shown))
    spread = np.array([[bar.value - bar.low for bar in shown], [bar.high - bar.value for bar in shown]])
    spread[~np.isfinite(spread)] = 0.0  # an interval without ends is not drawn
    axes.barh(
        rows,
        [bar.value for bar in shown],
        xerr=spread if spread.any() else None,
        color=[_DECIDED if bar.decided else _UNDECIDED for bar in shown],
        error_kw={"elinewidth": 0.9, "capsize": 1.8, "ecolor": _LINE},
        height=0.72,
    )
    axes.axvline(0.0, color=_LINE, linewidth=0.8)
    axes.set_yticks(rows, [bar.name for bar in shown], fontsize=7)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlabel(axis)
    axes.set_title(title + (f" ({left_out} more not shown)" if left_out else ""), fontsize=10, loc="left")
    axes.grid(axis="x", linewidth=0.4, alpha=0.5)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
