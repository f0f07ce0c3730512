"""The support table of docs/families.md is the recorded run, and the way it records can be gone."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from safetensors import safe_open
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


WHOLE = ("yolo11n-pose", "yolo26n")
EXPORTED = ("yolov3-tinyu", "yolov6n", "yolov8n-seg", "yolov9t", "yolov10n", "yolo11n-obb", "yolo12n", "yolo26n-seg")
"""Families whose commands run; all others are only loaded and rebuilt."""

NARROW = 0.0625
WIDER = {"yolo12n": 0.25}  # whose attention takes no fewer channels


def classes_of_the_demo() -> dict[int, str]:
    names: dict[int, str] = yaml.safe_load((ROOT / "data" / "demo.yaml").read_text())["names"]
    return names


def way(table: ModuleType, family: str, folder: Path, columns: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Run the commands of some columns on a narrow model of a family, and return the cells."""
    width, classes = WIDER.get(family, NARROW), classes_of_the_demo()
    model = table.seeded_checkpoint(family, folder / "model.pt", classes=classes, width=width)
    data = table.small_data(folder, ROOT / "data" / "demo.yaml")
    found: dict[str, dict[str, Any]] = table.family_way(model, data, folder, imgsz=64, columns=columns)
    assert {column: cell["text"] for column, cell in found.items() if not cell["ok"]} == {}
    assert found["QDQ export"]["lint"]["errors"] == 0
    with safe_open(folder / "calibrate" / "model.safetensors", framework="pt") as file:  # of no model but a rebuilt one
        description = json.loads(file.metadata()["yoloqat"])
    names = {int(index): name for index, name in description["names"].items()}
    assert (description["task"], names) == (table.FAMILIES[family][1], classes)
    return found


@pytest.mark.slow
def test_every_other_family_is_loaded_and_rebuilt(table, tmp_path):
    classes = {0: "a", 1: "b"}
    reasons = {}
    others = {family: task for family, (_, task) in table.FAMILIES.items() if family not in (*WHOLE, *EXPORTED)}
    assert len(others) + len(WHOLE) + len(EXPORTED) == len(table.FAMILIES)
    for family, task in others.items():
        path = table.seeded_checkpoint(family, tmp_path / "model.pt", classes=classes, width=NARROW)
        detector = load_detector(path)
        reasons[family] = detector.not_rebuildable
        assert (detector.info.task, detector.info.names) == (task, classes), family
        save_checkpoint(detector, tmp_path / "model.safetensors")
        load_detector(tmp_path / "model.safetensors")
    assert reasons == dict.fromkeys(others)


@pytest.mark.slow
@pytest.mark.parametrize("family", WHOLE)
def test_a_narrow_model_of_a_family_goes_the_whole_way(table, tmp_path, family):
    cells = way(table, family, tmp_path, table.COLUMNS)
    assert set(cells) == set(table.COLUMNS)
    assert cells["QDQ export"]["text"].endswith("1 step") or cells["QDQ export"]["text"].endswith("0 step")


@pytest.mark.slow
@pytest.mark.parametrize("family", EXPORTED)
def test_a_narrow_model_of_a_family_is_calibrated_and_exported_as_it_computes(table, tmp_path, family):
    columns = ("load", "PTQ", "QDQ export")
    assert set(way(table, family, tmp_path, columns)) == set(columns)
