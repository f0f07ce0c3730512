"""The support table of docs/families.md is the recorded run, and the way it records can be gone."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from torch import nn

from yoloqat.detectors import load_detector, save_checkpoint
from yoloqat.detectors.ultralytics import build

ROOT = Path(__file__).resolve().parents[1]


def shallow(architecture: dict[str, Any]) -> nn.Module:
    """Build a family with each of its blocks once: repeated ones are traced as often and show nothing new."""
    for layer in architecture["yaml"]["backbone"] + architecture["yaml"]["head"]:
        layer[1] = 1
        if layer[2] == "RepNCSPELAN4":
            layer[3][3] = 1
    return build(architecture)


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    module = importlib.import_module("support_table")
    monkeypatch.setattr(module, "build", shallow)
    return module


def test_the_page_holds_the_recorded_run(table):
    record = json.loads((ROOT / "docs" / "support.json").read_text())
    text = (ROOT / "docs" / "families.md").read_text()
    assert table.render(record) == text.partition(table.BEGIN)[2].partition(table.END)[0].strip()


def test_every_recorded_family_went_every_step(table):
    families = json.loads((ROOT / "docs" / "support.json").read_text())["families"]
    official, original = {"yolov5s", "yolov8n, official", "yolov8n-seg, official"}, {"yolov7-w025", "yolov7-tiny-w050"}
    assert set(table.FAMILIES) | official | original <= set(families)
    for family, row in families.items():
        assert set(row["cells"]) == set(table.COLUMNS), family
        assert all(cell["ok"] for cell in row["cells"].values()), family
        assert row["cells"]["QDQ export"]["lint"]["errors"] == 0, family


def test_a_failed_step_is_told_in_its_cell(table):
    cells = {column: {"ok": True, "text": "fine"} for column in table.COLUMNS}
    cells["QAT"] = {"ok": False, "text": "a | b"}
    record = {"families": {"some": {"weights": "seeded", "cells": cells}}}
    assert (
        table.render(record).splitlines()[-1]
        == "| some (seeded) | fine | fine | fine | no: a / b | fine | fine | fine |"
    )


@pytest.mark.slow
def test_every_family_is_loaded_and_rebuilt(table, tmp_path):
    classes = {0: "a", 1: "b"}
    reasons = {}
    for family, (_, task) in table.FAMILIES.items():
        width = 0.25 if family == "yolo12n" else 0.0625  # its attention takes no fewer channels
        path = table.seeded_checkpoint(family, tmp_path / "model.pt", classes=classes, width=width)
        detector = load_detector(path)
        reasons[family] = detector.not_rebuildable
        assert (detector.info.task, detector.info.names) == (task, classes), family
        save_checkpoint(detector, tmp_path / "model.safetensors")
        load_detector(tmp_path / "model.safetensors")
    assert reasons == dict.fromkeys(table.FAMILIES)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["yolo11n-pose", "yolo26n"])
def test_a_narrow_model_of_a_family_goes_the_whole_way(table, tmp_path, family):
    demo = ROOT / "data" / "demo.yaml"
    classes = yaml.safe_load(demo.read_text())["names"]
    model = table.seeded_checkpoint(family, tmp_path / "model.pt", classes=classes, width=0.125)
    cells = table.family_way(model, table.small_data(tmp_path, demo), tmp_path, imgsz=64)
    assert {column: cell["text"] for column, cell in cells.items() if not cell["ok"]} == {}
    assert cells["QDQ export"]["lint"]["errors"] == 0
    assert cells["QDQ export"]["text"].endswith("1 step") or cells["QDQ export"]["text"].endswith("0 step")


@pytest.mark.slow
@pytest.mark.parametrize(
    "family",
    ["yolov3-tinyu", "yolov6n", "yolov8n-seg", "yolov9t", "yolov10n", "yolo11n-obb", "yolo12n", "yolo26n-seg"],
)
def test_a_narrow_model_of_a_family_is_calibrated_and_exported_as_it_computes(table, tmp_path, family):
    demo = ROOT / "data" / "demo.yaml"
    classes = yaml.safe_load(demo.read_text())["names"]
    width = None if family == "yolo12n" else 0.125  # its attention asks for channels in multiples of 32
    model = table.seeded_checkpoint(family, tmp_path / "model.pt", classes=classes, width=width)
    columns = ("load", "PTQ", "QDQ export")
    cells = table.family_way(model, table.small_data(tmp_path, demo), tmp_path, imgsz=64, columns=columns)
    assert set(cells) == set(columns)
    assert {column: cell["text"] for column, cell in cells.items() if not cell["ok"]} == {}
    assert cells["QDQ export"]["lint"]["errors"] == 0
