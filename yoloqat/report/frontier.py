"""The frontier of float sets as a picture: noise over latency, predicted and measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from yoloqat.provenance import atomic_path

_LINE, _MEASURED, _CHOSEN = "#b8c4d0", "#2563a6", "#c2570c"


@dataclass(frozen=True)
class BuiltSet:
    """A float set that was measured.

    Attributes:
        label: What stands beside it.
        ms: Its latency, or the predicted one where it was not timed.
        d: Its noise.
        low: Lower end of the interval of the noise.
        high: Upper end.
        chosen: Whether it is the one that was chosen.
    """

    label: str
    ms: float
    d: float
    low: float
    high: float
    chosen: bool = False


def draw_frontier(
    predicted: Sequence[tuple[float, float]],
    built: Sequence[BuiltSet],
    path: Path,
    *,
    title: str,
    limit: tuple[str, float],
) -> None:
    """Write the picture of a frontier.

    Args:
        predicted: Milliseconds and noise of each predicted set, by rising latency.
        built: The sets that were measured.
        path: The ``.png`` file, written whole or not at all.
        title: Model, engine, images.
        limit: What the search was for: ``"d"`` or ``"ms"``, and the largest value of it.

    Raises:
        OutputError: The file cannot be written.
    """
    figure = Figure(figsize=(8.0, 5.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot([ms for ms, _ in predicted], [d for _, d in predicted], color=_LINE, marker=".", label="predicted")
    for chosen, colour, label in ((False, _MEASURED, "measured, 95 % interval"), (True, _CHOSEN, "chosen")):
        points = [point for point in built if point.chosen == chosen]
        if points:
            ends = [
                [max(point.d - point.low, 0.0) for point in points],
                [max(point.high - point.d, 0.0) for point in points],
            ]
            axes.errorbar(
                [point.ms for point in points],
                [point.d for point in points],
                yerr=ends,
                fmt="o",
                color=colour,
                elinewidth=0.9,
                capsize=2,
                label=label,
            )
    for point in built:
        axes.annotate(point.label, (point.ms, point.d), xytext=(5, 5), textcoords="offset points", fontsize=7)
    (axes.axhline if limit[0] == "d" else axes.axvline)(
        limit[1], color="#333333", linewidth=0.9, linestyle=":", label="limit"
    )
    axes.set_xlabel("milliseconds of one image")
    axes.set_ylabel("noise d (lower is better)")
    axes.set_ylim(bottom=0.0)
    axes.grid(linewidth=0.4, alpha=0.5)
    axes.legend(fontsize=8)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130)
