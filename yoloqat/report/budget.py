"""The noise budget as a picture: shares that add up to 100 %, and what remains when the first items are float."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from yoloqat.report.bars import Bar
from yoloqat.report.picture import Picture

SHOWN = 24
"""Bars of their own; the rest is one bar."""

_BAR, _REST, _LINE, _MACS = "#2563a6", "#b8c4d0", "#333333", "#c2570c"


@dataclass(frozen=True)
class CurveLine:
    """One curve over the number of float items.

    Attributes:
        items: How many items are float.
        d: The noise that is predicted.
        macs: Share of the multiply-adds in INT8.
        measured: The number of items and the noise, with both ends of its interval, where it was measured.
        knee: The number of items that is recommended.
    """

    items: Sequence[int]
    d: Sequence[float]
    macs: Sequence[float]
    measured: Sequence[tuple[int, float, float, float]]
    knee: int


def draw_budget(bars: Sequence[Bar], curve: CurveLine, *, title: str) -> Picture:
    """Return the picture of a noise budget.

    Args:
        bars: Share of each item by falling share, as fractions that add up to 1, with their intervals.
        curve: What remains when items are float.
        title: Model, images, float and quantized figures.
    """
    shown, rest = list(bars[:SHOWN]), bars[SHOWN:]
    if rest:
        total = sum(bar.value for bar in rest)
        shown.append(Bar(f"{len(rest)} others together", total, total, total))
    figure = Picture(12.0, 1.6 + 0.22 * max(len(shown), 8))
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    rows = range(len(shown))
    ends = [[max(bar.value - bar.low, 0.0) for bar in shown], [max(bar.high - bar.value, 0.0) for bar in shown]]
    left.barh(
        rows,
        [bar.value for bar in shown],
        xerr=ends,
        color=[_BAR] * len(bars[:SHOWN]) + [_REST] * bool(rest),
        error_kw={"elinewidth": 0.9, "capsize": 1.8, "ecolor": _LINE},
        height=0.72,
    )
    left.set_yticks(rows, [bar.name for bar in shown], fontsize=7)
    left.set_ylim(len(shown) - 0.4, -0.6)
    left.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    left.set_xlabel("share of the squared noise, 95 % interval; all bars add up to 100 %")
    _line_up(right, curve)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    for axes in (left, right):
        axes.grid(linewidth=0.4, alpha=0.5)
        axes.set_axisbelow(True)
        axes.spines["top"].set_visible(False)
    left.spines["right"].set_visible(False)
    left.tick_params(axis="y", length=0)
    return figure


def _line_up(axes: Axes, curve: CurveLine) -> None:
    axes.plot(curve.items, curve.d, color=_BAR, label="noise d (lower is better)")
    if curve.measured:
        counts, values, lows, highs = zip(*curve.measured, strict=True)
        ends = [
            [max(value - low, 0.0) for value, low in zip(values, lows, strict=True)],
            [max(high - value, 0.0) for value, high in zip(values, highs, strict=True)],
        ]
        axes.errorbar(
            counts, values, yerr=ends, fmt="o", color=_BAR, markersize=4, elinewidth=0.9, capsize=2, label="measured"
        )
    axes.set_xlabel("first items left in floating point")
    axes.set_ylabel("noise d")
    axes.set_ylim(bottom=0.0)
    other = axes.twinx()
    other.plot(curve.items, curve.macs, color=_MACS, linestyle="--", label="multiply-adds in INT8 (right)")
    other.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    other.set_ylim(0.0, 1.02)
    other.spines["top"].set_visible(False)
    if curve.knee:
        axes.axvline(curve.knee, color=_LINE, linewidth=0.9, linestyle=":", label=f"ignore.txt: first {curve.knee}")
    lines = [line for part in (axes, other) for line in part.get_legend_handles_labels()[0]]
    names = [name for part in (axes, other) for name in part.get_legend_handles_labels()[1]]
    axes.legend(lines, names, fontsize=7, loc="upper right")
