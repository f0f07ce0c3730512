"""The command `sensitivity`: what it writes, what it refuses, and how it goes on."""

from __future__ import annotations

import csv
import json
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest
import yaml
from safetensors import safe_open
from tiny_detector import TinyData

from yoloqat.evaluation.image_matches import pack
from yoloqat.sensitivity import scanner as scanner_module

Cli = Callable[..., Any]
FORMER = Path(__file__).parents[1] / "golden" / "former" / "results" / "sensitivity.json"
REQUIRED = {"name", "quantizers", "map50_95", "drop", "effect", "effect_ci95", "tied", "sqnr_db"}


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        left_out = ("seconds", "timing", "forward_per_item")
        return {key: timeless(entry) for key, entry in value.items() if not key.endswith(left_out)}
    return [timeless(entry) for entry in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def small(tiny_data: TinyData) -> tuple[object, ...]:
    return ("--data", tiny_data.yaml, "--batch", 5, "--granularity", "block")


def test_a_checkpoint_is_scanned_and_everything_is_written(cli: Cli, tiny_checkpoint: Path, small) -> None:
    ran = cli("sensitivity", tiny_checkpoint, *small, "--top", 2)
    assert ran.code == 0, ran.err
    results, former = ran.result["results"], json.loads(FORMER.read_text())["results"]
    assert results.keys() >= former.keys()
    assert results["items"][0].keys() >= former["items"][0].keys()
    assert (results["mode"], results["granularity"], results["evaluated_images"]) == ("leave-one-out", "block", 10)
    assert results["seconds"] > 0
    effects = [item["effect"] for item in results["items"]]
    assert len(effects) == 8
    told = [item["effect"] for item in results["items"] if item["decided"]]
    assert effects[: len(told)] == sorted(told, reverse=True), "what mAP tells apart comes first"
    shares = [item["share"] for item in results["items"][len(told) :]]
    assert shares == sorted(shares, reverse=True), "what it cannot tell from zero follows by noise"
    assert sum(item["share"] for item in results["items"]) == pytest.approx(1.0)
    for item in results["items"]:
        assert item.keys() >= REQUIRED
        low, high = item["effect_ci95"]
        assert low <= item["effect"] <= high
        assert item["effect"] == pytest.approx(item["map50_95"] - results["quantized"]["map50_95"])
        assert item["drop"] == pytest.approx(results["baseline"]["map50_95"] - item["map50_95"])
    assert results["state_unchanged"]
    assert results["summary"]["items"] == 8
    assert set(results["summary"]["proxies"]) == {"sqnr_db", "nmse", "head_error", "fisher", "noise_share"}
    assert {"study.db", "items.csv", "effects.png", "budget.png", "ignore.txt", "result.json"} <= set(ran.files)
    with (ran.directory / "items.csv").open() as stream:
        table = list(csv.DictReader(stream))
    assert [float(row["effect"]) for row in table] == effects
    for name in ("effects.png", "budget.png"):
        picture = cv2.imread(str(ran.directory / name))
        assert picture.shape[0] > 200
        assert picture.std() > 10
    lines = (ran.directory / "ignore.txt").read_text().splitlines()
    named = [line for line in lines if not line.startswith("#")]
    assert named == results["ignore"]
    assert results["ignore_reason"] in lines[0]


def test_the_ignore_list_is_taken_by_calibrate(
    cli: Cli, tiny_model: Path, tiny_checkpoint: Path, tiny_data: TinyData, small, tmp_path: Path
) -> None:
    curve = cli("sensitivity", tiny_checkpoint, *small, "--top", 1).result["results"]["curve"]
    limit = curve[-2]["expected_drop"]  # of the last point with a layer in INT8
    assert limit < curve[0]["expected_drop"]
    scanned = cli("sensitivity", tiny_checkpoint, *small, "--top", 1, "--max-drop", limit)
    line = scanned.out.strip().splitlines()[-1]
    assert re.match(r"next: yoloqat calibrate .*tiny\.pt --data .*data\.yaml .*--ignore @.*ignore\.txt ", line)
    data = ("--calib-images-dir", tiny_data.train, "--calib-images", 2, "--no-eval")
    ran = cli("calibrate", tiny_model, "--ignore", f"@{scanned.directory / 'ignore.txt'}", *data, out=tmp_path / "next")
    assert ran.code == 0, ran.err
    floats = scanned.result["results"]["ignore"]
    assert floats
    assert not set(floats) & set(ran.result["results"]["layers"])


def test_a_float_model_is_calibrated_first_and_kept(cli: Cli, tiny_model: Path, tiny_data: TinyData, small) -> None:
    calibration = ("--calib-images-dir", tiny_data.train, "--calib-images", 4, "--method", "max", "--base-bits", 6)
    ran = cli("sensitivity", tiny_model, *small, *calibration, "--mode", "one-at-a-time", "--metric", "map50")
    assert ran.code == 0, ran.err
    with safe_open(ran.directory / "model.safetensors", framework="pt") as stored:
        assert '"bits": 6' in stored.metadata()["yoloqat"]
    results = ran.result["results"]
    assert results["metric"] == "map50"
    for item in results["items"]:
        assert item["map50_95"] is None
        assert item["effect"] == pytest.approx(results["baseline"]["map50"] - item["value"])
        assert item["drop"] == item["effect"]


def test_an_adaptive_scan_stays_within_its_budget_and_says_how_sure_it_is(
    cli: Cli, tiny_checkpoint: Path, tiny_data
) -> None:
    line = ("sensitivity", tiny_checkpoint, "--data", tiny_data.yaml, "--batch", 1, "--top", 3)
    ran = cli(*line, "--budget", 0.4)  # as it was called in 0.1.0
    assert ran.code == 0, ran.err
    found = ran.result["results"]["adaptive"]
    with sqlite3.connect(ran.directory / "study.db") as study:
        (kept,) = study.execute("SELECT value FROM note WHERE name LIKE 'round 0%'").fetchone()
    assert json.loads(kept).keys() == {"items", "chunks", "cost"}  # as in the first version
    assert found["rounds"][0].keys() == {"items", "chunks", "forwards"}
    assert found["rounds"][0]["items"] == 24  # all, and the base's opposite
    assert 0 < found["spent"] <= found["budget"] == 0.4
    assert found["forwards"] == pytest.approx(sum(one["forwards"] for one in found["rounds"]))
    assert 0 < found["expected_right"] <= 3
    items = ran.result["results"]["items"]
    assert len({item["images"] for item in items}) > 1  # not all alike
    assert sum(item["chance"] for item in items) == pytest.approx(3.0)
    for item in items:
        low, high = item["effect_ci95"]
        assert low <= item["measured_effect"] <= high
        assert low <= item["effect"] <= high
        assert low < high
    tied = {item["name"]: item["share"] for item in items if item["effect_ci95"][0] <= 0 <= item["effect_ci95"][1]}
    order = [tied[point["name"]] for point in ran.result["results"]["curve"] if point["name"] in tied]
    assert order == sorted(order, reverse=True)
    assert len(order) > 3, "so that some of the first ones of the scan are among them"
    with (ran.directory / "items.csv").open() as stream:
        assert [int(row["images"]) for row in csv.DictReader(stream)] == [item["images"] for item in items]
    assert re.search(r"effect.*95 % interval.*images.*tied", ran.out)
    again = cli(*line, "--scan-cost", 0.4)
    assert timeless(again.result["results"]) == timeless(ran.result["results"])


def test_an_interrupted_scan_goes_on_and_does_nothing_again(
    cli: Cli, tiny_checkpoint: Path, small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = ("sensitivity", tiny_checkpoint, *small)
    whole = cli(*line, out=tmp_path / "whole").result["results"]
    seen: list[str] = []
    result = scanner_module.Scanner._result

    def counted(self: Any, name: str, *rest: Any, **named: Any) -> Any:
        if len(seen) == 7:
            raise KeyboardInterrupt
        seen.append(name)
        return result(self, name, *rest, **named)

    with monkeypatch.context() as patched:
        patched.setattr(scanner_module.Scanner, "_result", counted)
        ran = cli(*line)
        assert ran.code == 130
        assert "result.json" not in ran.files
        assert ran.err.strip().splitlines()[-1].startswith("yoloqat sensitivity: interrupted; finished parts are kept")
    rest: list[str] = []
    monkeypatch.setattr(
        scanner_module.Scanner,
        "_result",
        lambda self, name, *a, **k: (rest.append(name), result(self, name, *a, **k))[1],
    )
    resumed = cli(*line)
    assert resumed.code == 0, resumed.err
    assert len(seen) + len(rest) == 20  # 8 blocks, the base and its opposite, on two batches
    assert timeless(resumed.result["results"]) == timeless(whole)


def test_a_study_of_other_inputs_is_refused(cli: Cli, tiny_checkpoint: Path, small, tmp_path: Path) -> None:
    line = ("sensitivity", tiny_checkpoint, *small)
    out = tmp_path / "scan"
    assert cli(*line, out=out).code == 0
    (out / "result.json").unlink()  # as after an interruption
    for change, text in (
        (("--mode", "one-at-a-time"), 'with scan.mode "leave-one-out" and this run has "one-at-a-time"'),
        (("--nms-iou", 0.6), "with evaluation.nms_iou 0.7 and this run has 0.6"),
        (("--threads", 2), "with threads 1 and this run has 2"),
    ):
        ran = cli(*line, *change, out=out)
        assert ran.code == 2
        assert len(ran.err.strip().splitlines()) == 1
        assert text in ran.err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--bits", 8), "bits of the quantizer under test is 8 in a model of 8 bits"),
        (("--metric", "class:dog"), "metric is 'class:dog'; expected one of the classes box, disc, star"),
        (("--group", "stem"), "group is 'stem'; expected NAME=PATTERN,PATTERN"),
        (("--scan-cost", 2.0), "--scan-cost is 2.0; expected a number from 0 to 1"),
        (("--scan-cost", 0.0), "scan_cost is 0.0; expected a number above 0 and at most 1"),
        (("--map-top", 2), "map_top is 2 with mode 'leave-one-out'; expected it with mode 'noise' only"),
        (("--scan-cost", 0.1, "--mode", "noise"), "scan_cost is 0.1 with mode 'noise'; expected it with a mode that"),
        (("--max-drop", 2.0), "--max-drop is 2.0; expected a number from 0 to 1"),
        (("--workers", 999), "999 workers of 1 threads each want 999 cores"),
        (("--workers", 0), "--workers is 0; expected a whole number from 1 to 1024"),
        (("--top", 0), "--top is 0; expected a whole number from 1 to 10000000"),
        (("--base-bits", 6), "quantization options came with"),
    ],
)
def test_unfit_settings_end_in_one_line(cli: Cli, tiny_checkpoint: Path, tiny_data: TinyData, arguments, text) -> None:
    ran = cli("sensitivity", tiny_checkpoint, "--data", tiny_data.yaml, *arguments)
    assert ran.code == 2
    assert len(ran.err.strip().splitlines()) == 1
    assert text in ran.err
    assert "result.json" not in ran.files


def test_labels_for_map_are_asked_for_before_the_calibration(cli: Cli, tiny_model: Path, tiny_data: TinyData) -> None:
    ran = cli("sensitivity", tiny_model, "--mode", "noise", "--images", tiny_data.images, "--map-top", 2)
    assert ran.code == 2
    assert "map_top is 2 and the images have no labels" in ran.err
    assert "model.safetensors" not in ran.files


def test_one_image_ends_in_effects_without_intervals(
    cli: Cli, tiny_checkpoint: Path, tiny_data: TinyData, tmp_path: Path
) -> None:
    listed = tmp_path / "one.txt"
    labelled = next(
        path for path in sorted((tiny_data.images.parents[1] / "labels/val").iterdir()) if path.read_text().strip()
    )
    listed.write_text(f"{tiny_data.images / labelled.stem}.png\n")
    content = yaml.safe_load(tiny_data.yaml.read_text()) | {"val": str(listed)}
    data = tmp_path / "one.yaml"
    data.write_text(yaml.safe_dump(content))
    for budget in ((), ("--scan-cost", 1.0)):
        ran = cli(
            "sensitivity",
            tiny_checkpoint,
            "--data",
            data,
            "--granularity",
            "block",
            *budget,
            out=tmp_path / str(len(budget)),
        )
        assert ran.code == 0, ran.err
        for item in ran.result["results"]["items"]:
            assert (item["effect_ci95"], item["images"], item["decided"]) == (None, 1, False)
            assert item["effect_ci95_reason"] == "one image does not tell how images differ"


def test_a_damaged_study_ends_in_one_line(cli: Cli, tiny_checkpoint: Path, tiny_data: TinyData) -> None:
    line = ("sensitivity", tiny_checkpoint, "--data", tiny_data.yaml, "--granularity", "block", "--batch", 8)
    scanned = cli(*line, "--scan-cost", 0.9)
    assert scanned.code == 0, scanned.err
    study = scanned.directory / "study.db"
    whole = study.read_bytes()
    for statement, text in (
        ("UPDATE note SET value = '[]' WHERE name = 'noise'", "note 'noise': TypeError"),
        ("UPDATE note SET value = '{}' WHERE name = 'shares'", "note 'shares': KeyError"),
        (
            'UPDATE note SET value = \'{"items": ["x"], "chunks": [9], "cost": 1}\' WHERE name LIKE \'round 0%\'',
            "a round of",
        ),
        ("INSERT INTO piece (item, chunk) VALUES ('ghost', 0)", "pieces of batch 0 for ghost"),
        ("UPDATE piece SET matches = x'00'", "1 bytes of matches cannot be read"),
        ("UPDATE piece SET detections = NULL", "detections file '"),
        (
            f"UPDATE piece SET matches = x'{pack([]).hex()}'",
            "the study has matches of",
        ),
    ):
        study.write_bytes(whole)
        other = sqlite3.connect(study)
        other.executescript(statement)
        other.close()
        ran = cli(*line, "--scan-cost", 0.9)
        assert (ran.code, "Traceback" in ran.err) == (2, False), ran.err
        assert ran.err.strip().splitlines()[-1].startswith("yoloqat sensitivity: ")
        assert text in ran.err
