from __future__ import annotations

import json

import pytest

from yoloqat.report.charts import MOST_BARS, Point, Span, bars, line, plane, shares, spreads


def values(chart):
    return chart.spec["data"]["values"]


def test_bars_hold_their_numbers_and_only_intervals_that_are_there():
    spans = [Span.of_difference("a", 0.2, (0.1, 0.3)), Span.of_difference("b", 0.1, (-0.1, 0.3)), Span("c", 0.3)]
    assert [span.strong for span in spans] == [True, False, True]
    chart = bars("t", spans, axis="drop")
    assert values(chart) == [
        {"name": "a", "value": 0.2, "strong": True, "low": 0.1, "high": 0.3},
        {"name": "b", "value": 0.1, "strong": False, "low": -0.1, "high": 0.3},
        {"name": "c", "value": 0.3, "strong": True},
    ]
    assert len(chart.spec["layer"]) == 3
    assert len(bars("t", [Span("c", 0.3)], axis="drop").spec["layer"]) == 2


@pytest.mark.parametrize(("low", "high", "strong"), [(0.1, 0.2, True), (-0.2, -0.1, True), (0.0, 0.1, False)])
def test_an_interval_that_holds_zero_is_pale(low, high, strong):
    assert Span.of_difference("a", low, (low, high)).strong is strong
    assert not Span.of_difference("a", low, None).strong


def test_more_bars_than_can_be_read_are_told_in_the_title():
    chart = bars("t", [Span(str(number), 1.0) for number in range(MOST_BARS + 5)], axis="x")
    assert len(values(chart)) == MOST_BARS
    assert chart.title == f"t (the first {MOST_BARS} of {MOST_BARS + 5}; all are in the table)"
    assert bars("t", [Span("a", 1.0)], axis="x").title == "t"


@pytest.mark.parametrize("count", [1, 3, MOST_BARS, MOST_BARS + 1, 400])
def test_shares_add_up_to_the_whole_however_many_there_are(count):
    rows = values(shares("t", [(f"layer {number}", 1 / count) for number in range(count)]))
    assert len(rows) == min(count, MOST_BARS)
    assert sum(row["share"] for row in rows) == pytest.approx(1.0)
    assert rows[-1]["total"] == pytest.approx(1.0)
    assert rows[-1]["name"] == (f"{count - MOST_BARS + 1} others" if count > MOST_BARS else f"layer {count - 1}")


def test_lines_planes_and_spreads_hold_their_numbers():
    chart = line("t", [(1, 0.5), (2, 0.6)], axes=("epoch", "mAP"), levels=[("float", 0.7)])
    assert values(chart) == [{"x": 1, "y": 0.5}, {"x": 2, "y": 0.6}]
    assert chart.spec["layer"][1]["data"]["values"] == [{"name": "float", "y": 0.7}]
    assert chart.spec["layer"][0]["encoding"]["x"]["axis"]["format"] == "d"
    assert line("t", [(0.5, 1)], axes=("x", "y")).spec["layer"][0]["encoding"]["x"]["axis"]["format"] != "d"
    points = [Point("a", 1.0, 2.0, (1.5, 2.5)), Point("b", 2.0, 1.0)]
    assert values(plane("t", points, axes=("x", "y"), forms=("d", "d")))[0] == {
        "name": "a",
        "x": 1.0,
        "y": 2.0,
        "low": 1.5,
        "high": 2.5,
    }
    assert values(spreads("t", [("m", 1.0, 2.0, 3.0)], axis="ms")) == [
        {"name": "m", "p50": 1.0, "p95": 2.0, "p99": 3.0}
    ]


def test_a_plot_has_no_colour_of_its_own():
    plots = [
        bars("t", [Span("a", 1.0, (0.0, 2.0))], axis="x"),
        shares("t", [("a", 1.0)]),
        spreads("t", [("m", 1.0, 2.0, 3.0)], axis="ms"),
        line("t", [(1, 2)], axes=("x", "y"), levels=[("l", 1)]),
        plane("t", [Point("a", 1.0, 2.0)], axes=("x", "y"), forms=("d", "d")),
    ]
    for chart in plots:
        assert not any(word in json.dumps(chart.spec) for word in ('"color"', '"fill"', '"stroke"', "#"))
        assert chart.spec["width"] == "container"
