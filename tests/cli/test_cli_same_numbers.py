"""What is written otherwise and means the same is scored the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tiny_detector import TinyData

Cli = Callable[..., Any]


@pytest.fixture
def own(tiny_data: TinyData, tmp_path: Path) -> Path:
    """A data set that the test may change."""
    return Path(shutil.copytree(tiny_data.yaml.parent, tmp_path / "set"))


def scores(ran: Any) -> dict[str, Any]:
    """Return the metrics of a run of eval."""
    assert ran.code == 0, ran.err
    found = {key: ran.result["results"][key] for key in ("map50_95", "map50", "map75", "per_class", "images")}
    assert found["map50_95"] > 0.3
    return found


def test_lines_repeated_in_other_words(cli: Cli, tiny_model: Path, tiny_data: TinyData, own: Path) -> None:
    for path in (own / "labels" / "val").iterdir():
        rows = [line.split() for line in path.read_text().splitlines() if line]
        again = [" ".join([f"{index}.0", *(f"{number}00" for number in numbers)]) for index, *numbers in rows]
        path.write_text("\n".join([path.read_text().strip(), *again]))
    usual = scores(cli("eval", tiny_model, "--data", tiny_data.yaml))
    assert scores(cli("eval", tiny_model, "--data", own / "data.yaml")) == usual


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})])
def test_images_stored_turned(
    cli: Cli, tiny_model: Path, tiny_data: TinyData, own: Path, kind: str, options: dict[str, Any]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for path in list((own / "images" / "val").iterdir()):
        turned = Image.open(path).transpose(Image.Transpose.ROTATE_90)
        path.unlink()
        turned.save(path.with_suffix(f".{kind.lower()}"), kind, exif=exif, **options)
    usual = scores(cli("eval", tiny_model, "--data", tiny_data.yaml))
    assert scores(cli("eval", tiny_model, "--data", own / "data.yaml")) == usual


def test_a_json_with_null_areas_and_ids_as_floats(cli: Cli, tiny_model: Path, tiny_data: TinyData, own: Path) -> None:
    content = json.loads(tiny_data.annotations.read_text())
    for entry in content["annotations"]:
        entry |= {"area": None, "iscrowd": None, "image_id": float(entry["image_id"])}
    (own / "coco.json").write_text(json.dumps(content))
    usual = scores(cli("eval", tiny_model, "--images", tiny_data.images, "--annotations", tiny_data.annotations))
    assert (
        scores(cli("eval", tiny_model, "--images", own / "images" / "val", "--annotations", own / "coco.json")) == usual
    )
