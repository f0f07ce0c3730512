"""The data set that yoloqat brings along, with few of its images."""

from __future__ import annotations

from pathlib import Path

import yaml


def demo_of_few_images(data: Path, folder: Path, *, images: int) -> Path:
    """Write the demo's data set again with the first of its validation images and return its YAML."""
    content = yaml.safe_load(data.read_text())
    first = sorted((data.parent / content["val"]).iterdir())[:images]
    folder.mkdir()
    (folder / "val.txt").write_text("\n".join(map(str, first)))
    path = folder / "demo.yaml"
    changed = {"path": ".", "train": str(data.parent / content["train"]), "val": "val.txt"}
    path.write_text(yaml.safe_dump(content | changed))
    return path
