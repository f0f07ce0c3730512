from __future__ import annotations

import math

import pytest
from made_results import budget, fidelity, former, noise, unlabelled

from yoloqat.report import plots
from yoloqat.report.bars import MOST_BARS
from yoloqat.report.budget import SHOWN
from yoloqat.results import Result


def labels(axes):
    return [text.get_text() for text in axes.get_yticklabels()]


def lengths(axes):
    return [round(bar.get_width(), 6) for bar in axes.patches]


def test_the_budget_shows_the_largest_share_first_and_marks_what_stays_float():
    results = budget()["results"]
    shuffled = results | {"items": results["items"][::-1]}  # a scan ranks its items by effect
    left, right, macs = plots.budget_plot(shuffled, title="t").axes
    assert labels(left) == [item["name"] for item in results["items"]]
    assert sum(lengths(left)) == pytest.approx(1.0)
    estimated = right.lines[0].get_ydata()
    assert list(estimated) == [point["d_estimated"] for point in results["curve"]]
    knee = next(line for line in right.lines if line.get_label() == "ignore.txt: first 2")
    assert list(knee.get_xdata()) == [2, 2]
    assert list(macs.lines[0].get_ydata()) == [point["int8_mac_share"] for point in results["curve"]]


def test_a_budget_of_many_items_adds_up_the_rest_and_a_missing_noise_is_a_gap():
    results = budget()["results"] | {"items": noise(63)["results"]["items"], "ignore": []}
    results["curve"][1]["d_estimated"] = None
    left, right, _ = plots.budget_plot(results).axes
    assert len(lengths(left)) == SHOWN + 1
    assert sum(lengths(left)) == pytest.approx(1.0, abs=1e-4)
    assert math.isnan(right.lines[0].get_ydata()[1])
    assert not [line for line in right.lines if str(line.get_label()).startswith("ignore")]


def test_effects_keep_the_order_of_the_ranking():
    results = former("sensitivity")["results"]
    (axes,) = plots.effects_plot(results).axes
    assert labels(axes) == [item["name"] for item in results["items"]][:MOST_BARS]
    assert lengths(axes) == [round(item["effect"], 6) for item in results["items"]][:MOST_BARS]
    assert results["metric"] in axes.get_xlabel()


def test_methods_stand_by_their_noise_with_the_drop_beside_it_where_it_is_known():
    results = fidelity()["results"]
    drawn = plots.methods_plot(results)
    by_noise, by_drop = drawn.axes
    rows = sorted(results["methods"], key=lambda row: row["d"])
    assert lengths(by_noise) == [round(row["d"], 6) for row in rows]
    assert lengths(by_drop) == [round(row["drop"], 6) for row in rows]
    assert drawn.get_suptitle() == "recommended: entropy"
    assert len(plots.methods_plot(unlabelled()["results"]).axes) == 1


def test_training_starts_at_calibration_and_shows_the_float_model():
    results = former("finetune")["results"] | {"best_reason": "highest mAP", "best_epoch": 1}
    first = plots.training_plot(results).axes[0]
    assert first.get_ylabel() == "mAP50-95"
    points = [results["start"]["map50_95"], *(row["map50_95"] for row in results["epochs"])]
    assert list(first.lines[0].get_ydata()) == points
    assert list(first.lines[0].get_xdata()) == [0, *(row["epoch"] for row in results["epochs"])]
    assert {line.get_label() for line in first.lines[1:]} == {"float", "best epoch"}


def test_latencies_and_classes_are_bars():
    results = former("bench")["results"]
    (axes,) = plots.latency_plot(results).axes
    assert lengths(axes) == [round(item["latency_ms"]["p50"], 6) for item in results["items"]]
    results = former("eval")["results"]
    (axes,) = plots.classes_plot(results).axes
    known = [row["map50_95"] for row in results["per_class"].values() if row["map50_95"] is not None]
    assert lengths(axes) == [round(score, 6) for score in sorted(known, reverse=True)]


def test_a_notebook_is_given_a_png_without_pyplot():
    picture = Result(former("bench")["results"], (), drawn_by=plots.latency_plot).plot()
    assert picture._repr_png_().startswith(b"\x89PNG")
    assert picture.to_png(40).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("command", "results", "names"),
    [
        ("compare", fidelity()["results"], ["methods", "training"]),
        ("sensitivity", budget()["results"] | {"mode": "noise"}, ["budget"]),
        ("eval", former("eval")["results"], ["classes"]),
        ("lint", former("lint")["results"], []),
    ],
)
def test_the_pictures_of_a_command_are_those_its_keys_allow(command, results, names):
    results = results | {"start": {"map50_95": None, "d": None}, "best_epoch": 1, "best_reason": "lowest d"}
    assert [name for name, _ in plots.plots_of(command, results)] == names
