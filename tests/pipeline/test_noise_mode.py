from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from yoloqat.config import EvalConfig
from yoloqat.datasets import DetectionDataset
from yoloqat.detectors import load_detector
from yoloqat.errors import ConfigError
from yoloqat.pipeline import noise_budget
from yoloqat.pipeline.noise_mode import run_noise_budget
from yoloqat.pipeline.run import Run
from yoloqat.pipeline.sensitivity import ScanOptions, model_title
from yoloqat.pipeline.tables import noise_table
from yoloqat.provenance.files import finite
from yoloqat.sensitivity.items import Item
from yoloqat.sensitivity.noise import OTHERS, NoiseScan
from yoloqat.sensitivity.settings import NOISE, ScanConfig
from yoloqat.sensitivity.study import Study

CONFIG = EvalConfig(imgsz=64, batch=2)
BLOCKS = ScanConfig(mode=NOISE, granularity="block")
MakeRun = Callable[..., Run]


@pytest.fixture(scope="module")
def found(tiny_checkpoint: Path, tiny_data, tmp_path_factory: pytest.TempPathFactory):
    import torch

    from yoloqat.datasets import load_dataset

    run = Run(tmp_path_factory.mktemp("noise"), torch.device("cpu"), 1)
    images = load_dataset(tiny_data.yaml).images[:4]
    results = run_noise_budget(tiny_checkpoint, images, CONFIG, scan=BLOCKS, options=ScanOptions(top=3), run=run)
    return results, run.out


def test_the_results_say_what_makes_the_noise(found) -> None:
    results, _ = found
    assert (results["mode"], results["granularity"], results["images"]) == ("noise", "block", 4)
    low, high = results["d_ci95"]
    assert 0 < low <= results["d"] <= high
    assert results["additivity"] == pytest.approx(results["d_predicted"] / results["d"])
    items = results["items"]
    assert [item["share"] for item in items] == sorted((item["share"] for item in items), reverse=True)
    assert sum(item["share"] for item in items) == pytest.approx(1.0)
    assert sum(entry["share"] for entry in results["quantizers"]) == pytest.approx(1.0)
    assert {entry["weight"] for entry in results["quantizers"]} == {True, False}
    assert 0 < results["weights"]["d"] < results["d"] + results["activations"]["d"]
    assert all(item["layers"] and item["quantizers"] for item in items)
    known = {name for entry in results["histograms"] for name in entry["quantizers"]}
    assert known >= {name for item in items for name in item["quantizers"] if "weight" in name}


def test_the_curve_goes_from_all_quantized_to_all_float(found) -> None:
    results, _ = found
    curve = results["curve"]
    assert [point["items"] for point in curve] == list(range(9))
    assert [point["name"] for point in curve[1:]] == [item["name"] for item in results["items"]]
    shares = [point["int8_mac_share"] for point in curve]
    assert shares == sorted(shares, reverse=True)
    assert (shares[-1], curve[-1]["d_predicted"]) == (0.0, 0.0)
    assert all(point["d"] == point["d_estimated"] for point in curve if "d" in point)
    measured = {point["items"] for point in curve if "d" in point}
    assert measured == {0, 1, 2, 3, 5, 8}
    assert curve[8]["d"] < 0.2 * curve[0]["d"], "of the inputs of Adds alone, which no ignore list names"
    predicted = [point["d_predicted"] for point in curve]
    assert predicted == sorted(predicted, reverse=True)


def test_the_files_hold_the_items_the_picture_and_the_layers(found) -> None:
    results, out = found
    with (out / "items.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["name"] for row in rows] == [item["name"] for item in results["items"]]
    assert [float(row["share"]) for row in rows] == [item["share"] for item in results["items"]]
    assert float(rows[0]["d_low"]) <= float(rows[0]["d"]) <= float(rows[0]["d_high"])
    assert cv2.imread(str(out / "budget.png")).std() > 10
    lines = (out / "ignore.txt").read_text().splitlines()
    assert lines[0] == f"# {results['ignore_reason']}"
    assert [line for line in lines if not line.startswith("#")] == results["ignore"]


@pytest.mark.parametrize(("imgsz", "size"), [(64, "64"), ((64, 96), "64 x 96")])
def test_a_picture_is_headed_with_the_weights_and_the_image_size(tiny_checkpoint: Path, imgsz, size: str) -> None:
    title = model_title(load_detector(tiny_checkpoint), replace(CONFIG, imgsz=imgsz))
    assert title == f"tiny.pt, {size} px", "not the name of the checkpoint, which is the same for all"


def test_the_table_adds_the_shares_up(found) -> None:
    results, _ = found
    table = noise_table("tiny", results)
    assert [row[0] for row in table.rows] == [item["name"] for item in results["items"]]
    assert table.rows[-1][3] == "100.0 %"
    assert "predicted by the sum of squares" in table.caption


def test_an_interrupted_budget_goes_on(
    tiny_checkpoint: Path, dataset: DetectionDataset, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, batches = make_run(), []
    first = NoiseScan.run

    def stopped(self, batch, on=None, **options):
        if len(batches) == 1:
            raise KeyboardInterrupt
        batches.append(batch)
        return first(self, batch, on, **options)

    line = {"scan": BLOCKS, "options": ScanOptions(top=3), "run": run}
    monkeypatch.setattr(NoiseScan, "run", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_noise_budget(tiny_checkpoint, dataset.images[:4], CONFIG, **line)
    again = []
    monkeypatch.setattr(
        NoiseScan, "run", lambda self, *given, **more: again.append(given) or first(self, *given, **more)
    )
    whole = run_noise_budget(tiny_checkpoint, dataset.images[:4], CONFIG, **line)
    assert (batches, [given[0] for given in again if given[1] is None]) == ([0], [1])
    other = make_run("other")
    fresh = run_noise_budget(tiny_checkpoint, dataset.images[:4], CONFIG, **line | {"run": other})
    assert fresh["items"] == whole["items"]


def test_a_budget_ends_when_the_order_is_settled_and_the_others_measure_the_curve(
    tiny_checkpoint: Path, dataset: DetectionDataset, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noise_budget, "FEWEST", 2)
    monkeypatch.setattr(noise_budget, "order_is_settled", lambda values, first: values.shape[1] >= 2 and first == 3)
    options = ScanOptions(top=3)
    found = run_noise_budget(tiny_checkpoint, dataset.images[:4], CONFIG, scan=BLOCKS, options=options, run=make_run())
    assert (found["images"], found["settled"]) == (2, True)
    assert (found["curve_images"], found["curve_held_out"]) == (2, True)


def test_a_curve_in_another_order_is_measured_anew(
    tiny_checkpoint: Path, dataset: DetectionDataset, make_run: MakeRun
) -> None:
    run = make_run()
    detector = load_detector(tiny_checkpoint)
    scan = NoiseScan(detector, dataset.images[:2], config=CONFIG, scan=BLOCKS, device=run.device, memory=1 << 30)

    def curve(study: Study, order: Sequence[Item]) -> list[float]:
        budget = noise_budget.measure_noise(study, scan, first=3, run=run)
        points = noise_budget.complete_budget(study, scan, budget, order, run=run).curve
        return [point.d.value for point in points if point.d is not None]

    with (
        closing(Study(run.out / "study.db", {})) as study,
        closing(Study(run.out / "fresh.db", {})) as fresh,
    ):
        first, again = curve(study, scan.items), curve(study, scan.items[::-1])
        assert again == curve(fresh, scan.items[::-1]) != first


def test_the_drop_of_the_first_items_is_measured_where_it_is_asked_for(
    tiny_checkpoint: Path, dataset: DetectionDataset, make_run: MakeRun
) -> None:
    line = {"scan": BLOCKS, "options": ScanOptions(top=3), "run": make_run()}
    found = run_noise_budget(tiny_checkpoint, dataset.images[:4], CONFIG, dataset=dataset, map_top=2, **line)
    scored = [item for item in found["items"] if item["map50_95"] is not None]
    assert scored == found["items"][:2]
    for item in scored:
        assert item["drop"] == pytest.approx(found["baseline"]["map50_95"] - item["map50_95"])
    assert found["evaluated_images"] == len(dataset.images)
    assert "mAP drop alone" in noise_table("tiny", found).columns


def test_what_groups_leave_out_takes_no_place_among_the_scored(
    tiny_checkpoint: Path, dataset: DetectionDataset, make_run: MakeRun
) -> None:
    scan = ScanConfig(mode=NOISE, granularity="group", groups=("last=model.9",))
    line = {"scan": scan, "options": ScanOptions(top=3), "run": make_run()}
    found = run_noise_budget(tiny_checkpoint, dataset.images[:2], CONFIG, dataset=dataset, map_top=1, **line)
    assert [item["name"] for item in found["items"]] == [OTHERS, "last"]
    assert [item["map50_95"] is None for item in found["items"]] == [True, False]
    rows = noise_table("tiny", found).rows
    assert (rows[0][-1], rows[1][-1][0]) == ("-", "+" if found["items"][1]["drop"] >= 0 else "-")


def test_a_float_model_that_sees_nothing_has_no_noise_and_no_error(
    tiny_checkpoint: Path, dataset: DetectionDataset, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blind(self, batch, on=None, **options):
        return {name: [math.nan] * len(self.batches[batch].records) for name in (self.names if on is None else on)}

    monkeypatch.setattr(NoiseScan, "run", blind)
    run = make_run()
    found = run_noise_budget(
        tiny_checkpoint, dataset.images[:2], CONFIG, scan=BLOCKS, options=ScanOptions(max_drop=0.1), run=run
    )
    assert (found["d"], found["items_d_predicted"], found["additivity"]) == (None, None, None)
    assert {item["share"] for item in found["items"]} == {None}
    assert (run.out / "ignore.txt").read_text().startswith("# no model")
    again = run_noise_budget(tiny_checkpoint, dataset.images[:2], CONFIG, scan=BLOCKS, options=ScanOptions(), run=run)
    assert again["ignore"] == []
    assert finite(again)[1] == {}
    assert noise_table("tiny", again).rows[0][1:] == ("-", "-", "0.0 %")


def test_map_needs_labels(tiny_checkpoint: Path, dataset: DetectionDataset, make_run: MakeRun) -> None:
    with pytest.raises(ConfigError, match="map_top is 2 and the images have no labels"):
        run_noise_budget(
            tiny_checkpoint,
            dataset.images[:2],
            CONFIG,
            scan=BLOCKS,
            options=ScanOptions(),
            run=make_run(),
            map_top=2,
        )


def test_the_layers_that_a_drop_asks_for(
    tiny_checkpoint: Path, dataset: DetectionDataset, make_run: MakeRun, found
) -> None:
    results, _ = found
    curve, run = results["curve"], make_run()

    def ignored(max_drop: float) -> list[str]:
        options = ScanOptions(top=3, max_drop=max_drop)
        again = run_noise_budget(tiny_checkpoint, dataset.images[:4], CONFIG, scan=BLOCKS, options=options, run=run)
        return list(again["ignore"])

    limit = curve[5]["expected_relative_drop"]
    least = next(point for point in curve if point["expected_relative_drop"] <= limit)
    layers = [layer for item in results["items"][: least["items"]] for layer in item["layers"]]
    assert ignored(limit) == layers
    assert ignored(curve[0]["expected_relative_drop"]) == []
    assert ignored(0.0) == [], "no model with a layer in INT8 is without a drop"


def test_a_study_of_other_bits_is_refused(tiny_checkpoint: Path, dataset: DetectionDataset, make_run: MakeRun) -> None:
    line = {"options": ScanOptions(top=3), "run": make_run()}
    run_noise_budget(tiny_checkpoint, dataset.images[:2], CONFIG, scan=BLOCKS, **line)
    with pytest.raises(ConfigError, match=r"scan\.bits null and this run has 4"):
        run_noise_budget(tiny_checkpoint, dataset.images[:2], CONFIG, scan=replace(BLOCKS, bits=4), **line)
