"""Images that do not decode are refused, or left out and counted where asked."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_detector import TinyData

Cli = Callable[..., Any]


@pytest.fixture
def spoilt(tiny_data: TinyData, tmp_path: Path) -> TinyData:
    """A data set with a broken image in each split."""
    there = tmp_path / "set"
    shutil.copytree(tiny_data.yaml.parent, there)
    data = TinyData(there / "data.yaml", there / "images" / "val", there / "coco.json", there / "images" / "train")
    for name in ("images/val/001.png", "images/train/001.png"):
        content = (there / name).read_bytes()
        (there / name).write_bytes(content[: len(content) // 3])
    return data


def test_eval_counts_what_it_left_out(cli: Cli, tiny_model: Path, spoilt: TinyData) -> None:
    images = len(list(spoilt.images.iterdir()))
    for data in (("--data", spoilt.yaml), ("--images", spoilt.images, "--annotations", spoilt.annotations)):
        ran = cli("eval", tiny_model, *data)
        assert ran.code == 2
        assert "001.png' does not decode" in ran.err
        assert "pass --skip-bad-images" in ran.err
        ran = cli("eval", tiny_model, *data, "--skip-bad-images")
        assert ran.code == 0, ran.err
        assert ran.result["results"]["images"] == images - 1
        assert ran.result["results"]["skipped_images"] == 1
        assert ran.result["results"]["skipped_image_files"] == [str(spoilt.images / "001.png")]
        assert f"left out images that do not decode: 1, e.g. '{spoilt.images / '001.png'}'" in ran.out


def test_nothing_left_out_is_counted_too(cli: Cli, tiny_model: Path, tiny_data: TinyData) -> None:
    ran = cli("eval", tiny_model, "--data", tiny_data.yaml, "--skip-bad-images")
    assert ran.code == 0, ran.err
    assert (ran.result["results"]["skipped_images"], ran.result["results"]["skipped_image_files"]) == (0, [])
    assert "left out" not in ran.out
    assert "skipped_images" not in cli("eval", tiny_model, "--data", tiny_data.yaml).result["results"]


def test_calibrate_chooses_others(cli: Cli, tiny_model: Path, spoilt: TinyData) -> None:
    images = len(list(spoilt.train.iterdir()))
    arguments = (tiny_model, "--data", spoilt.yaml, "--no-eval", "--calib-images", images - 1)
    ran = cli("calibrate", *arguments, "--skip-bad-images", "--calib-select", "first")
    assert ran.code == 0, ran.err
    assert ran.result["results"]["skipped_image_files"] == [str(spoilt.train / "001.png")]
    assert ran.result["results"]["calibration_images"] == images - 1


def test_finetune_by_layers_leaves_them_out(
    cli: Cli, tiny_checkpoint: Path, tiny_model: Path, spoilt: TinyData
) -> None:
    arguments = ("--data", spoilt.yaml, "--supervise", 4, "--epochs", 1, "--float", tiny_model)
    assert cli("finetune", tiny_checkpoint, *arguments).code == 2
    ran = cli("finetune", tiny_checkpoint, *arguments, "--skip-bad-images")
    assert ran.code == 0, ran.err
    assert ran.result["results"]["skipped_images"] == 2


def test_predict_looks_at_the_whole_ones(cli: Cli, tiny_model: Path, spoilt: TinyData, tmp_path: Path) -> None:
    ran = cli("predict", tiny_model, spoilt.images, "--no-pictures")
    assert (ran.code, "pass --skip-bad-images" in ran.err) == (2, True), ran.err
    images = len(list(spoilt.images.iterdir()))
    ran = cli("predict", tiny_model, spoilt.images, "--no-pictures", "--skip-bad-images")
    assert ran.code == 0, ran.err
    found = ran.result["results"]
    assert (found["images"], found["skipped_image_files"]) == (images - 1, [str(spoilt.images / "001.png")])
    broken = spoilt.images / "001.png"
    ran = cli("predict", tiny_model, broken, "--no-pictures", "--skip-bad-images")
    assert (ran.code, ran.err.count("\n")) == (2, 1), ran.err
    assert f"no image of '{broken}' decodes; expected at least one whole image" in ran.err
