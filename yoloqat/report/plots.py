"""Results as matplotlib pictures: what ``result.plot()`` returns and what is saved beside ``result.json``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from yoloqat.report.bars import Bar, draw_bars, fill_bars
from yoloqat.report.budget import CurveLine, draw_budget
from yoloqat.report.figures import bounds, layer_count, method_name, short_names, value
from yoloqat.report.parts import Results
from yoloqat.report.picture import Picture
from yoloqat.results import counted

_LINE, _LEVEL = "#2563a6", "#c2570c"


def budget_plot(results: Results, *, title: str = "") -> Picture:
    """Return the noise budget of `sensitivity`: shares that add up to 100 %, and what is left as the first items are float.

    Args:
        results: With ``items`` and ``curve``.
        title: Above the picture.
    """
    items = sorted(results["items"], key=lambda item: (-(value(item, "share") or 0.0), item["name"]))
    curve = results["curve"]
    measured = [(point["items"], point["d"], *point["d_ci95"]) for point in curve if point.get("d_ci95")]
    chosen = len(results["ignore"])
    knee = next((p["items"] for p in curve if chosen and (layer_count(p["float_layers"]) or 0) >= chosen), 0)
    line = CurveLine(
        [point["items"] for point in curve],
        [_drawn(value(point, "d_estimated")) for point in curve],
        [point["int8_mac_share"] for point in curve],
        measured,
        knee,
    )
    bars = [_bar(item["name"], value(item, "share") or 0.0, bounds(item, "share_ci95")) for item in items]
    return draw_budget(bars, line, title=title or f"noise budget on {counted(results['images'], 'image')}")


def effects_plot(results: Results, *, title: str = "") -> Picture:
    """Return the effects on mAP of the items of `sensitivity`, in the order of the ranking.

    Args:
        results: With ``items`` that have effects.
        title: Above the picture.
    """
    bars = [_bar(item["name"], item["effect"], bounds(item, "effect_ci95")) for item in results["items"]]
    images = counted(results["evaluated_images"], "image")
    title = title or f"{results['mode']}, {results['granularity']}, {images}"
    return draw_bars(bars, title=title, axis=f"effect on {results['metric']}, 95 % interval; a larger one is worse")


def methods_plot(results: Results, *, title: str = "") -> Picture:
    """Return the methods of `compare`, the least noisy first: noise d, and with labels the drop of mAP.

    Args:
        results: With ``methods``.
        title: Above the picture.
    """
    rows = sorted(results["methods"], key=lambda row: value(row, "d") or 0.0)
    drawn = {
        name: [
            _bar(method_name(row), found, bounds(row, f"{name}_ci95"))
            for row in rows
            if (found := value(row, name)) is not None
        ]
        for name in ("d", "drop")
    }
    parts = [(name, bars) for name, bars in drawn.items() if bars]
    figure = Picture(5.2 * len(parts) + 1.0, 1.5 + 0.28 * max(len(rows), 3))
    words = {
        "d": "noise d, 95 % interval; lower is better",
        "drop": "drop of mAP50-95, 95 % interval; pale: zero is inside",
    }
    for (name, bars), axes in zip(parts, figure.subplots(1, len(parts), squeeze=False).flat, strict=True):
        fill_bars(axes, bars, title="", axis=words[name])
    figure.suptitle(title or f"recommended: {results['recommended']}", fontsize=10, x=0.01, ha="left")
    return figure


def training_plot(results: Results, *, title: str = "") -> Picture:
    """Return the curve of `finetune`: mAP, where there are labels, and noise d after each epoch, from calibration on.

    Args:
        results: With ``start`` and ``epochs``.
        title: Above the picture.
    """
    rows = [dict(results["start"]) | {"epoch": 0}, *results["epochs"]]
    names = [name for name in ("map50_95", "d", "loss") if any(value(row, name) is not None for row in rows)]
    figure = Picture(4.2 * len(names), 3.2)
    words = {"map50_95": "mAP50-95", "d": "noise d", "loss": "loss"}
    for name, axes in zip(names, figure.subplots(1, len(names), squeeze=False).flat, strict=True):
        _curve(axes, rows, name, words[name])
        if name == "map50_95" and value(results, "map_float") is not None:
            axes.axhline(results["map_float"], color=_LEVEL, linewidth=1.0, linestyle="--", label="float")
        if results["best_epoch"]:
            axes.axvline(results["best_epoch"], color="#333333", linewidth=0.9, linestyle=":", label="best epoch")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=7)
    figure.suptitle(
        title or f"best epoch {results['best_epoch']}, {results['best_reason']}", fontsize=10, x=0.01, ha="left"
    )
    return figure


def _curve(axes: Axes, rows: Sequence[Results], name: str, word: str) -> None:
    points = [
        (row["epoch"], found, bounds(row, f"{name}_ci95")) for row in rows if (found := value(row, name)) is not None
    ]
    epochs, values = [point[0] for point in points], [point[1] for point in points]
    axes.plot(epochs, values, color=_LINE, marker="o", markersize=3.5)
    ends = [(epoch, *interval) for epoch, _, interval in points if interval]
    if ends:
        axes.vlines(*zip(*ends, strict=True), color=_LINE, linewidth=0.8)
    axes.set_xlabel("epoch; 0 is calibration")
    axes.set_ylabel(word)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(linewidth=0.4, alpha=0.5)


def latency_plot(results: Results, *, title: str = "") -> Picture:
    """Return the median latency of each model of `bench`, with a line on to its 99th percentile.

    Args:
        results: With ``items``.
        title: Above the picture.
    """
    names = short_names([str(item["artifact"]) for item in results["items"]])
    times = [item["latency_ms"] for item in results["items"]]
    bars = [Bar(name, time["p50"], time["p50"], time["p99"]) for name, time in zip(names, times, strict=True)]
    return draw_bars(bars, title=title, axis="ms: the median, and a line on to the 99th percentile")


def classes_plot(results: Results, *, title: str = "") -> Picture:
    """Return the AP50-95 of each class of `eval`, the highest first.

    Args:
        results: With ``per_class``.
        title: Above the picture.
    """
    found = {name: score for name, row in results["per_class"].items() if (score := value(row, "map50_95")) is not None}
    bars = [_bar(name, found[name], None) for name in sorted(found, key=lambda name: -found[name])]
    return draw_bars(bars, title=title or f"mAP50-95 {_drawn(value(results, 'map50_95')):.4f}", axis="AP50-95")


def plots_of(command: str, results: Results) -> Iterable[tuple[str, Picture]]:
    """Yield the pictures of a command's results, each with its name.

    Args:
        command: Such as ``"compare"``.
        results: Its results.
    """
    if command == "sensitivity":
        yield "budget", budget_plot(results)
        if "mode" in results and results["mode"] != "noise":
            yield "effects", effects_plot(results)
    for name, key, draw in (
        ("methods", "methods", methods_plot),
        ("training", "epochs", training_plot),
        ("classes", "per_class", classes_plot),
    ):
        if results.get(key):
            yield name, draw(results)


def _bar(name: str, length: float, interval: tuple[float, float] | None) -> Bar:
    return Bar(name, length, *(interval or (length, length)))


def _drawn(found: float | None) -> float:
    """Return a number to draw; NaN, which leaves a gap, where there is none."""
    return float("nan") if found is None else found
