"""Plots as Vega-Lite specifications: data and form, no colours, which are the page's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from yoloqat.report.parts import Chart

MOST_BARS = 60
"""Bars of a plot that are still legible; the table below it holds all."""
_NAME = {"field": "name", "type": "nominal", "sort": None, "title": None}
_ROW = 19
"""Pixels from one bar to the next."""
_TICKS = 6
_WITH_INTERVAL = {"transform": [{"filter": "isValid(datum.low)"}]}
_ZERO = {
    "data": {"values": [{}]},
    "mark": {"type": "rule", "style": "zero"},
    "encoding": {"x": {"datum": 0}, "y": None},
}


@dataclass(frozen=True)
class Span:
    """A value with its interval.

    Attributes:
        name: The label of the bar.
        value: Its length.
        bounds: Its interval, or None.
        strong: Full colour; pale where False.
    """

    name: str
    value: float
    bounds: tuple[float, float] | None = None
    strong: bool = True

    @classmethod
    def of_difference(cls, name: str, value: float, bounds: Sequence[float] | None) -> Span:
        """Return a difference whose bar is pale where its interval holds zero, or where it has none."""
        if bounds is None:
            return cls(name, value, None, strong=False)
        low, high = bounds
        return cls(name, value, (low, high), strong=low > 0 or high < 0)


def _short(shown: int, count: int) -> str:
    return f" (the first {shown} of {count}; all are in the table)" if shown < count else ""


def _spec(data: list[dict[str, Any]], **rest: Any) -> dict[str, Any]:
    return {"width": "container", "autosize": {"type": "fit-x", "contains": "padding"}, "data": {"values": data}} | rest


def _number(field: str, title: str, form: str, **rest: Any) -> dict[str, Any]:
    axis = {"format": form, "tickCount": _TICKS}
    return {"field": field, "type": "quantitative", "title": title, "axis": axis, **rest}


def _tip(field: str, title: str, form: str = "") -> dict[str, Any]:
    return {"field": field, "title": title} | (
        {"type": "quantitative", "format": form} if form else {"type": "nominal"}
    )


def bars(title: str, spans: Sequence[Span], *, axis: str, form: str = ".4~f") -> Chart:
    """Return horizontal bars from zero, the first on top, with their intervals.

    Args:
        title: Above the plot.
        spans: In the order they are shown; those after :data:`MOST_BARS` are left out, as the title says.
        axis: What the lengths are.
        form: Of the numbers, in d3's notation.
    """
    shown = spans[:MOST_BARS]
    rows = [
        {"name": span.name, "value": span.value, "strong": span.strong}
        | ({"low": span.bounds[0], "high": span.bounds[1]} if span.bounds else {})
        for span in shown
    ]
    tips = [_tip("name", "name"), _tip("value", axis, form)]
    layers: list[dict[str, Any]] = [
        {
            "mark": {"type": "bar", "height": {"band": 0.7}},
            "encoding": {
                "x": _number("value", axis, form),
                "fillOpacity": {"condition": {"test": "datum.strong", "value": 1}, "value": 0.4},
                "tooltip": tips,
            },
        },
        _ZERO,
    ]
    if any(span.bounds for span in shown):
        tips += [_tip("low", "95 % from", form), _tip("high", "95 % to", form)]
        encoding = {"x": _number("low", axis, form), "x2": {"field": "high"}, "tooltip": tips}
        layers.append(_WITH_INTERVAL | {"mark": {"type": "rule", "style": "interval"}, "encoding": encoding})
    spec = _spec(rows, height=_ROW * len(rows), encoding={"y": _NAME}, layer=layers)
    return Chart(title + _short(len(shown), len(spans)), spec, f"{title}: {len(shown)} bars, by {axis}")


def spreads(title: str, rows: Sequence[tuple[str, float, float, float]], *, axis: str) -> Chart:
    """Return bars of a median, each with a line on to its 95th and 99th percentile.

    Args:
        title: Above the plot.
        rows: Name, p50, p95 and p99 of each.
        axis: What the lengths are.
    """
    data = [dict(zip(("name", "p50", "p95", "p99"), row, strict=True)) for row in rows]
    tips = [_tip("name", "model"), *(_tip(name, name, ".3f") for name in ("p50", "p95", "p99"))]
    layers = [
        {"mark": {"type": "bar", "height": {"band": 0.6}}, "encoding": {"x": _number("p50", axis, ".4~r")}},
        {
            "mark": {"type": "rule", "style": "interval"},
            "encoding": {"x": _number("p50", axis, ".4~r"), "x2": {"field": "p99"}},
        },
        {"mark": {"type": "tick", "style": "interval"}, "encoding": {"x": _number("p95", axis, ".4~r")}},
        {"mark": {"type": "tick", "style": "interval"}, "encoding": {"x": _number("p99", axis, ".4~r")}},
    ]
    spec = _spec(data, height=34 * len(data), encoding={"y": _NAME, "tooltip": tips}, layer=layers)
    return Chart(title, spec, f"{title}: a bar to the median of each model, a line on to its 95th and 99th percentile")


def shares(title: str, parts: Sequence[tuple[str, float]]) -> Chart:
    """Return bars of shares of a whole, with a line of what they add up to; all beyond the first make one bar.

    Args:
        title: Above the plot.
        parts: Name and share of each, by falling share.
    """
    shown = list(parts) if len(parts) <= MOST_BARS else list(parts[: MOST_BARS - 1])
    rest = parts[len(shown) :]
    if rest:
        shown.append((f"{len(rest)} others", sum(share for _, share in rest)))
    data: list[dict[str, Any]] = []
    total = 0.0
    for name, share in shown:
        total += share
        data.append({"name": name, "share": share, "total": total})
    axis = "share of the noise"
    tips = [_tip("name", "name"), _tip("share", axis, ".2%"), _tip("total", "with those above", ".1%")]
    mark: dict[str, Any] = {"type": "line", "style": "total", "point": {"style": "total-point"}, "orient": "vertical"}
    ends = [min(0.0, *(row["share"] for row in data)), max(1.0, round(total, 3))]
    scale = {"domain": ends, "nice": False}
    layers = [
        {
            "mark": {"type": "bar", "height": {"band": 0.7}},
            "encoding": {"x": _number("share", axis, ".0%", scale=scale)},
        },
        {"mark": mark, "encoding": {"x": _number("total", axis, ".0%", scale=scale)}},
    ]
    spec = _spec(data, height=_ROW * len(data), encoding={"y": _NAME, "tooltip": tips}, layer=layers)
    return Chart(title, spec, f"{title}: {len(shown)} bars, and a line of their sum that ends at {100 * total:.0f} %")


@dataclass(frozen=True)
class Point:
    """A point of a plane.

    Attributes:
        name: Told on hover.
        x: To the right.
        y: Up.
        bounds: Interval of y, or None.
    """

    name: str
    x: float
    y: float
    bounds: tuple[float, float] | None = None


def line(
    title: str,
    points: Sequence[tuple[float, float]],
    *,
    axes: tuple[str, str],
    form: str = ".4~f",
    levels: Sequence[tuple[str, float]] = (),
    measured: Sequence[Point] = (),
    zero: bool = False,
) -> Chart:
    """Return a line through points, with levels to compare it with.

    Args:
        title: Above the plot.
        points: x and y of each, by rising x.
        axes: What x and y are.
        form: Of y, in d3's notation.
        levels: Name and height of horizontal lines.
        measured: Points of their own, with intervals, to compare the line with.
        zero: Let y begin at zero.
    """
    data = [{"x": x, "y": y} for x, y in points]
    whole = all(float(x).is_integer() for x, _ in points)
    x_axis = {"tickMinStep": 1, "format": "d"} if whole else {"format": ".4~r"}
    x = {"field": "x", "type": "quantitative", "title": axes[0], "axis": x_axis, "scale": {"zero": False}}
    y = _number("y", axes[1], form, scale={"zero": zero})
    tips = [_tip("x", axes[0], ".4~r"), _tip("y", axes[1], form)]
    layers: list[dict[str, Any]] = [
        {"mark": {"type": "line", "point": True}, "encoding": {"x": x, "y": y, "tooltip": tips}}
    ]
    if levels:
        named = {"values": [{"name": name, "y": height} for name, height in levels]}
        level_tips = [_tip("name", "level"), _tip("y", axes[1], form)]
        layers += [
            {"data": named, "mark": {"type": "rule", "style": "level"}, "encoding": {"y": y, "tooltip": level_tips}},
            {
                "data": named,
                "mark": {
                    "type": "text",
                    "style": "level-name",
                    "align": "left",
                    "baseline": "bottom",
                    "dx": 4,
                    "dy": -2,
                },
                "encoding": {"y": y, "x": {"value": 0}, "text": {"field": "name"}},
            },
        ]
    if measured:
        layers += _points(measured, axes, form, x=x, y=y)
    return Chart(title, _spec(data, height=220, layer=layers), f"{title}: {axes[1]} over {axes[0]}, {len(data)} points")


def _points(
    points: Sequence[Point], axes: tuple[str, str], form: str, *, x: dict[str, Any], y: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return the layers of points with their intervals."""
    data = {"values": [_point(point) for point in points]}
    tips = [_tip("name", "what"), _tip("x", axes[0], ".4~r"), _tip("y", axes[1], form)]
    found: list[dict[str, Any]] = []
    if any(point.bounds for point in points):
        tips += [_tip("low", "95 % from", form), _tip("high", "95 % to", form)]
        encoding = {"x": x, "y": y | {"field": "low"}, "y2": {"field": "high"}}
        found.append(
            _WITH_INTERVAL | {"data": data, "mark": {"type": "rule", "style": "interval"}, "encoding": encoding}
        )
    mark = {"type": "point", "filled": True, "size": 60, "style": "total-point"}
    return [*found, {"data": data, "mark": mark, "encoding": {"x": x, "y": y, "tooltip": tips}}]


def _point(point: Point) -> dict[str, Any]:
    ends = {"low": point.bounds[0], "high": point.bounds[1]} if point.bounds else {}
    return {"name": point.name, "x": point.x, "y": point.y} | ends


def plane(title: str, points: Sequence[Point], *, axes: tuple[str, str], forms: tuple[str, str]) -> Chart:
    """Return points of a plane with the intervals of y, joined in their order.

    Args:
        title: Above the plot.
        points: In the order in which they are joined.
        axes: What x and y are.
        forms: Of x and y, in d3's notation.
    """
    data = [_point(point) for point in points]
    x = _number("x", axes[0], forms[0], scale={"zero": False})
    y = _number("y", axes[1], forms[1], scale={"zero": False})
    tips = [_tip("name", "setting"), _tip("x", axes[0], forms[0]), _tip("y", axes[1], forms[1])]
    layers = [
        {"mark": {"type": "line", "style": "path"}, "encoding": {"y": y, "order": {"field": "x"}}},
        {"mark": {"type": "point", "filled": True, "size": 70}, "encoding": {"y": y, "tooltip": tips}},
    ]
    if any(point.bounds for point in points):
        encoding = {"y": _number("low", axes[1], forms[1]), "y2": {"field": "high"}}
        layers.append(_WITH_INTERVAL | {"mark": {"type": "rule", "style": "interval"}, "encoding": encoding})
    spec = _spec(data, height=260, encoding={"x": x}, layer=layers)
    return Chart(title, spec, f"{title}: {axes[1]} over {axes[0]}, {len(data)} points")
