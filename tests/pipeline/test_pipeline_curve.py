from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from forwards import CONFIG, Forwards
from matplotlib.figure import Figure

from yoloqat.config import MethodSpec
from yoloqat.datasets import DetectionDataset
from yoloqat.detectors import TorchPredictor, load_detector
from yoloqat.errors import ConfigError, OutputError
from yoloqat.evaluation.reference import Fidelity
from yoloqat.pipeline import curve as curve_module
from yoloqat.pipeline.calibrate import calibrate
from yoloqat.pipeline.curve import amax_changes, doubling, draw_curve, is_settled, save_curve, settling_curve
from yoloqat.pipeline.fidelity import fidelity_to
from yoloqat.pipeline.ptq import Ptq
from yoloqat.pipeline.run import Run
from yoloqat.pipeline.tables import curve_table, scores_table
from yoloqat.quant import activation_quantizers

MakeRun, MakePtq = Callable[..., Run], Callable[..., Ptq]


def test_one_pass_gives_all_points_and_the_last_is_the_calibration_itself(
    make_run: MakeRun, make_ptq: MakePtq, dataset: DetectionDataset
) -> None:
    ptq = make_ptq(make_run())
    forwards = Forwards(ptq)
    curve = settling_curve(ptq, MethodSpec("max"), [1, 2, 4], CONFIG, run=make_run(), dataset=dataset)
    assert forwards.collecting == 3  # 1, 1 and 2 images
    assert [point["images"] for point in curve] == [1, 2, 4]
    assert curve[0]["amax_change"] > curve[1]["amax_change"] > curve[2]["amax_change"] == 0.0
    assert all(point["amax_change_max"] >= point["amax_change"] for point in curve)
    last = {name: float(quantizer.amax) for name, quantizer in activation_quantizers(ptq.detector.module)}
    whole = make_ptq(make_run("whole"))
    whole.apply(MethodSpec("max"))
    assert last == pytest.approx(
        {name: float(quantizer.amax) for name, quantizer in activation_quantizers(whole.detector.module)}, rel=1e-5
    )
    for point in curve:
        low, high = point["drop_ci95"]
        assert low <= high
        assert 0 <= point["map50_95"] <= 1


def test_the_noise_needs_no_labels(make_run: MakeRun, make_ptq: MakePtq, dataset: DetectionDataset) -> None:
    ptq, run = make_ptq(make_run()), make_run()
    curve = settling_curve(ptq, MethodSpec("max"), [1, 4], CONFIG, run=run, compared=dataset.images)
    assert [set(point) for point in curve] == [{"images", "amax_change", "amax_change_max", "d", "d_ci95"}] * 2
    found = calibrate(ptq, MethodSpec("max"), CONFIG, run=run, compared=dataset.images)
    assert found["d"] == pytest.approx(curve[-1]["d"], rel=1e-3)
    floating = TorchPredictor(load_detector(Path(ptq.detector.source.path)))
    assert found["d"] == pytest.approx(fidelity_to(floating, ptq.predictor, dataset.images, CONFIG, run=run).d.value)
    assert found["map_qfloat"] is None


def test_without_a_data_set_only_the_ranges_are_looked_at(make_run: MakeRun, make_ptq: MakePtq) -> None:
    curve = settling_curve(make_ptq(make_run()), MethodSpec("mse"), [2, 4], CONFIG, run=make_run())
    assert [set(point) for point in curve] == [{"images", "amax_change", "amax_change_max"}] * 2


def test_the_numbers_double_up_to_all() -> None:
    assert doubling(5) == [5]
    assert doubling(8) == [8]
    assert doubling(40) == [8, 16, 32, 40]


def test_the_curve_stops_where_the_noise_settles(
    make_run: MakeRun, make_ptq: MakePtq, dataset: DetectionDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[float, float]] = []

    def settled(before: Fidelity, after: Fidelity) -> bool:
        asked.append((before.d.value, after.d.value))
        return True

    monkeypatch.setattr(curve_module, "is_settled", settled)
    ptq, counts, images = make_ptq(make_run()), [1, 2, 4], dataset.images[:2]
    curve = settling_curve(ptq, MethodSpec("max"), counts, CONFIG, run=make_run(), compared=images, until_settled=True)
    assert [point["images"] for point in curve] == [1, 2]
    assert asked == [(curve[0]["d"], curve[1]["d"])]


@pytest.mark.parametrize(
    ("changes", "settled"), [([-0.1, -0.2, -0.1], False), ([0.1, -0.1, 0.0], True), ([0.0], False)]
)
def test_settled_is_what_the_paired_interval_cannot_tell(changes: list[float], settled: bool) -> None:
    ids = tuple(range(len(changes)))
    before, after = ({"d": np.full(len(changes), 0.5) + change} for change in (0.0, np.array(changes)))
    assert is_settled(Fidelity(before, ids), Fidelity(after, ids)) is settled


def test_a_curve_that_stops_by_itself_needs_images(make_run: MakeRun, make_ptq: MakePtq) -> None:
    with pytest.raises(ConfigError, match="the curve is to stop by itself and d is measured on 0 images"):
        settling_curve(make_ptq(make_run()), MethodSpec("max"), [2, 4], CONFIG, run=make_run(), until_settled=True)


@pytest.mark.parametrize("counts", [[0, 2], [2, 2], [3, 1], [5], []])
def test_numbers_that_do_not_rise_or_are_too_large_are_told(
    make_run: MakeRun, make_ptq: MakePtq, counts: list[int]
) -> None:
    named = ", ".join(map(str, counts))
    with pytest.raises(ConfigError, match=rf"numbers of calibration images are {named}; .* from 1 to the 4 images"):
        settling_curve(make_ptq(make_run()), MethodSpec("max"), counts, CONFIG, run=make_run())


def test_changes_are_relative_and_leave_dead_tensors_out() -> None:
    assert amax_changes({"a": 1.0, "b": 3.0, "c": 0.0}, {"a": 2.0, "b": 3.0, "c": 0.0}) == (0.25, 0.5)
    assert amax_changes({"c": 0.0}, {"c": 0.0}) == (0.0, 0.0)


POINTS = [
    {"images": 1, "amax_change": 0.2, "amax_change_max": 0.5, "map50_95": 0.3, "drop": 0.1, "drop_ci95": [0.0, 0.2]},
    {"images": 4, "amax_change": 0.0, "amax_change_max": 0.0, "map50_95": 0.4, "drop": 0.0, "drop_ci95": [-0.1, 0.1]},
]


def test_the_chart_shows_ranges_and_drops(tmp_path: Path) -> None:
    figure = Figure()
    draw_curve(POINTS, figure)
    ranges, drops = figure.axes
    assert list(ranges.lines[0].get_ydata()) == [20.0, 0.0]
    assert list(drops.lines[0].get_ydata()) == [0.1, 0.0]
    noisy = Figure()
    draw_curve([point | {"d": 0.2, "d_ci95": [0.1, 0.3]} for point in POINTS], noisy)
    assert [axes.get_ylabel() for axes in noisy.axes[1:]] == ["noise d, lower is better", "drop of mAP50-95"]
    alone = Figure()
    draw_curve(
        [{name: point[name] for name in ("images", "amax_change", "amax_change_max")} for point in POINTS], alone
    )
    assert len(alone.axes) == 1
    save_curve(POINTS, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write '.*file/curve\.png'"):
        save_curve(POINTS, tmp_path / "file" / "curve.png")


def test_the_table_shows_what_was_measured_in_80_columns() -> None:
    plain = {"images": 1024, "amax_change": 0.2, "amax_change_max": 12.0}
    noise = {"d": 0.1639, "d_ci95": [0.1454, 0.1851]}
    scores = {"map50_95": 0.3373, "drop": 0.0021, "drop_ci95": [-0.0052, 0.0091]}
    always = ("images", "amax change", "largest")
    assert curve_table([plain]).columns == always
    alone, both = curve_table([plain | noise]), curve_table([plain | noise | scores])
    assert alone.columns == (*always, "d, 95 % interval")
    assert alone.rows[0][-1] == "0.1639 [0.1454, 0.1851]"
    assert both.columns == (*always, "d", "mAP50-95", "drop, 95 % interval")
    assert (
        max(map(len, str(both).splitlines())) + len(both.columns) - 1 <= 80
    )  # a terminal's columns are a space wider apart
    unscored = {"map_float": None, "backend": {"name": "yoloqat"}, "fidelity_images": 64}
    assert scores_table("", noise | unscored).rows == (
        ("noise d, 64 images, 95 % interval", "0.1639 [0.1454, 0.1851]"),
    )
