"""The histogram of a quantizer with its clip line, and the use of its integers, as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from yoloqat.report.picture import Picture

_BARS, _CLIP, _LINE = "#2563a6", "#c02f2f", "#333333"
_LEAST = 1e-8
"""Where the logarithmic axes end: shares below are not shown."""
_WIDTH = 88
"""Characters in a line of the title."""


def draw_quantizers(quantizers: Mapping[str, Mapping[str, Any]]) -> Picture:
    """Return a chart with a column for each quantizer.

    Args:
        quantizers: The ``quantizer`` key of the results of ``inspect``: at least one.
    """
    columns = len(quantizers)
    figure = Picture(6.6 * columns, 6.4)
    axes = figure.subplots(2, columns, squeeze=False)
    for (name, facts), (upper, lower) in zip(quantizers.items(), axes.T, strict=True):
        _histogram(upper, facts)
        upper.set_title(
            f"{name}\n{fill(str(facts['verdict']), _WIDTH, break_on_hyphens=False)}", fontsize=8, loc="left"
        )
        _integers(lower, facts)
    return figure


def _histogram(axes: Axes, facts: Mapping[str, Any]) -> None:
    histogram = facts["histogram"]
    edges, clip = np.array(histogram["edges"]), float(histogram["clip"])
    axes.stairs(histogram["shares"], edges, fill=True, color=_BARS)
    axes.axvline(clip, color=_CLIP, linewidth=1.3, label=f"range ends at {clip:.4g}")
    steps = facts["usage"]["steps"]
    if clip > 0 and steps > 0:
        # every eighth of the integers, so that the grid shows how coarse the steps are against the values
        for integer in np.linspace(0, steps, 9)[1:-1]:
            axes.axvline(clip * round(integer) / steps, color=_LINE, linewidth=0.5, linestyle=":")
        scaled = (lambda x: np.multiply(x, steps / clip), lambda x: np.multiply(x, clip / steps))
        integers = axes.secondary_xaxis("top", functions=scaled)
        integers.set_xlabel("integer", fontsize=8)
        integers.set_xticks(np.unique(np.linspace(0, steps, 9).round()))
        integers.tick_params(labelsize=7)
    unit = "value" if histogram["unit"] == "value" else "weight in steps of its channel"
    axes.set_xlabel(f"absolute {unit}", fontsize=8)
    axes.set_xlim(0, max(float(edges[-1]), clip) * 1.02)
    _share_axis(axes, histogram["shares"])
    axes.legend(fontsize=7, frameon=False)


def _integers(axes: Axes, facts: Mapping[str, Any]) -> None:
    usage = facts["usage"]
    shares, width = usage["integer_shares"], usage["integers_per_share"]
    axes.bar(
        np.arange(len(shares)) * width, shares, width=0.9 * width, align="edge" if width > 1 else "center", color=_BARS
    )
    axes.set_xlabel(
        f"absolute integer, of {usage['steps']}; {100 * usage['zero_share']:.3g} % at 0, "
        f"{100 * usage['one_share']:.3g} % at 1, {usage['entropy_bits']:.1f} of {usage['most_entropy_bits']:.1f} bits used",
        fontsize=8,
    )
    axes.set_xlim(-0.02 * (usage["steps"] + 1), 1.02 * (usage["steps"] + 1))
    _share_axis(axes, shares)


def _share_axis(axes: Axes, shares: list[float]) -> None:
    least = min((share for share in shares if share > _LEAST), default=_LEAST)
    axes.set_yscale("log")
    axes.set_ylim(least / 2, 1.0)
    axes.set_ylabel("share of the values", fontsize=8)
    axes.tick_params(labelsize=7)
    for side in ("right", "top"):
        axes.spines[side].set_visible(False)
