"""What `yoloqat diff` finds, draws and writes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tiny_detector import IMGSZ, VALIDATION_IMAGES, TinyData, make_module, save_module

import yoloqat as yq
from yoloqat.config.detecting import DiffConfig, PredictConfig
from yoloqat.errors import ConfigError
from yoloqat.evaluation.changes import KINDS

Cli = Callable[..., Any]
CONF = ("--conf", 0.05)


def test_two_models_are_compared_with_labels_and_without(
    cli: Cli, tiny_model: Path, tiny_checkpoint: Path, tiny_data: TinyData
) -> None:
    ran = cli("diff", tiny_model, tiny_checkpoint, "--data", tiny_data.yaml, *CONF, "--pictures", 2)
    assert ran.code == 0, ran.err
    found = ran.result["results"]
    assert found.keys() >= {"d", "d_ci95", "box_disagreement", "fidelity_map", "threshold", "score_quantiles"}
    rows = found["changes_by_image"]
    assert len(rows) == found["fidelity_images"] == VALIDATION_IMAGES
    assert [row["disagreement"] for row in rows] == sorted((row["disagreement"] for row in rows), reverse=True)
    for name in ("changes_by_image", "changes_by_class", "changes_by_size"):
        assert sum(row["boxes_float"] for row in found[name]) == found["boxes_float"] > 5
        for kind in KINDS:
            assert sum(row[kind] for row in found[name]) == found["changes"][kind]
    changed = sum(found["changes"].values())
    assert changed == sum(len(row["details"]) for row in rows) > 0
    kept = found["boxes_float"] - sum(found["changes"][kind] for kind in ("lost", "fell", "relabelled"))
    new = sum(found["changes"][kind] for kind in ("gained", "rose", "relabelled"))
    assert found["boxes_quantized"] == kept + new
    assert found["threshold"]["advice"] in ran.out
    assert "images that change most" in ran.out

    bare = cli("diff", tiny_model, tiny_checkpoint, "--images", tiny_data.images, *CONF, "--pictures", 0)
    assert bare.result["results"]["fidelity_images"] == VALIDATION_IMAGES // 2
    assert bare.files == ["fiftyone.json", "pictures", "report.html", "result.json"]


def test_pictures_a_gallery_and_a_file_for_fiftyone_are_written(
    cli: Cli, tiny_model: Path, tiny_checkpoint: Path, tiny_data: TinyData
) -> None:
    ran = cli("diff", tiny_model, tiny_checkpoint, "--data", tiny_data.yaml, *CONF, "--pictures", 2)
    found = ran.result["results"]
    assert [entry["image"] for entry in found["pictures"]] == [row["image"] for row in found["changes_by_image"][:2]]
    for entry in found["pictures"]:
        with Image.open(ran.directory / entry["file"]) as picture:
            assert (picture.format, picture.size[0]) == ("JPEG", 2 * IMGSZ + 8)
        for tile in entry["tiles"]:
            with Image.open(ran.directory / tile) as picture:
                assert (picture.format, picture.size) == ("WEBP", (IMGSZ, IMGSZ))
    page = (ran.directory / "report.html").read_text()
    assert page.count("data:image/webp;base64,") == 4
    assert "loses" in re.search(r'class="verdict">([^<]*)', page)[1]

    content = json.loads((ran.directory / "fiftyone.json").read_text())
    assert (content["media_type"], len(content["samples"])) == ("image", VALIDATION_IMAGES)
    for side, boxes in (("float", "boxes_float"), ("quantized", "boxes_quantized")):
        detections = [one for sample in content["samples"] for one in sample[side]["detections"]]
        assert len(detections) == found[boxes]
        assert {one["_cls"] for one in detections} == {"Detection"}
        assert all(0 <= value <= 1 for one in detections for value in one["bounding_box"])
        assert all(one["confidence"] > 0.05 for one in detections)
        assert content["sample_fields"][side].endswith("EmbeddedDocumentField(fiftyone.core.labels.Detections)")
    assert all(Path(sample["filepath"]).is_file() for sample in content["samples"])


def test_a_model_does_not_differ_from_itself(cli: Cli, tiny_model: Path, tiny_data: TinyData) -> None:
    ran = cli("diff", tiny_model, tiny_model, "--data", tiny_data.yaml, *CONF)
    found = ran.result["results"]
    assert (found["d"], set(found["changes"].values()), found["pictures"]) == (0.0, {0}, [])
    assert (found["threshold"]["change"], found["threshold"]["f1"]) == (False, 1.0)
    assert "keep the confidence threshold 0.05" in ran.out


def test_what_cannot_be_compared_is_one_line(cli: Cli, tiny_model: Path, tiny_data: TinyData, tmp_path: Path) -> None:
    module = make_module()
    module.names = {0: "disc", 1: "box", 2: "moon"}
    other = save_module(module, tmp_path / "other.pt")
    ran = cli("diff", tiny_model, other, "--data", tiny_data.yaml)
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert f"the classes of '{tiny_model.name}' and 'other.pt' differ: 3 with 2 'star' and 3 with 2 'moon'" in ran.err
    ran = cli("diff", tiny_model, other)
    assert (ran.code, "the data set is not named" in ran.err) == (2, True)


@pytest.mark.parametrize(
    ("kind", "values", "told"),
    [
        (DiffConfig, {"conf": 1.5}, "conf is 1.5; expected a number from 0 to 1"),
        (DiffConfig, {"moved": -1}, "moved is -1; expected a number from 0 to 1"),
        (DiffConfig, {"pictures": -2}, "pictures is -2; expected a whole number of at least 0"),
        (PredictConfig, {"conf": "x"}, "conf is 'x'; expected a number from 0 to 1"),
        (PredictConfig, {"iou": 2}, "iou is 2; expected a number from 0 to 1"),
        (PredictConfig, {"max_det": 0}, "max_det is 0; expected a whole number of at least 1"),
        (PredictConfig, {"batch": 0}, "batch is 0; expected a whole number of at least 1"),
    ],
)
def test_settings_are_checked(kind: Any, values: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)):
        kind(**values)


def test_from_python(tiny_model: Path, tiny_checkpoint: Path, tiny_data: TinyData, tmp_path: Path) -> None:
    found = yq.diff(
        tiny_model,
        tiny_checkpoint,
        yq.Dataset.from_yaml(tiny_data.yaml),
        config=DiffConfig(conf=0.05, pictures=1),
        device="cpu",
    )
    assert found.to_dict()["boxes_float"] > 5
    assert "images that change most" in repr(found)
    assert len(found.save(tmp_path)["pictures"]) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fiftyone.json", "pictures"]
