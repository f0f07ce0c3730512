"""Render the demo data set: images, YOLO labels, COCO annotations and the data set's YAML.

Everything follows from the seed; run it again and the same files come out (the JPEG bytes may differ between
versions of OpenCV, the pixels before compression do not between runs):

    python scripts/make_demo_data.py --out data
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
from demo_objects import CLASSES
from demo_scenes import Scene, render

SEED = 20
SPLITS = {"train": 0, "val": 1, "extra": 2}  # a split's number is part of each of its images' seeds
TRAIN_IMAGES = 256
VAL_IMAGES = 240
JPEG_QUALITY = 80


def yolo_lines(scene: Scene) -> list[str]:
    """Return the scene's labels as YOLO writes them: class, centre and size as fractions of the picture."""
    height, width = scene.pixels.shape[:2]
    lines = []
    for label in scene.labels:
        left, top, box_width, box_height = label.box
        values = (
            (left + box_width / 2) / width,
            (top + box_height / 2) / height,
            box_width / width,
            box_height / height,
        )
        lines.append(f"{label.category} " + " ".join(f"{value:.6f}" for value in values))
    return lines


def coco_image(index: int, name: str, scene: Scene) -> dict[str, Any]:
    """Return the scene's entry in a COCO json's ``images``."""
    height, width = scene.pixels.shape[:2]
    return {"id": index, "file_name": name, "height": height, "width": width}


def coco_annotations(index: int, first: int, scene: Scene) -> list[dict[str, Any]]:
    """Return the scene's entries in a COCO json's ``annotations``, numbered from ``first``; categories start at 1."""
    return [
        {
            "id": first + offset,
            "image_id": index,
            "category_id": label.category + 1,
            "bbox": list(label.box),
            "area": label.area,
            "iscrowd": 0,
        }
        for offset, label in enumerate(scene.labels)
    ]


def write_split(root: Path, split: str, *, images: int, seed: int) -> None:
    """Render one split into ``root/images``, ``root/labels`` and ``root/annotations``.

    Args:
        root: The data set's directory.
        split: A key of `SPLITS`.
        images: How many images.
        seed: The data set's seed.
    """
    pictures, texts, annotations = (root / "images" / split, root / "labels" / split, root / "annotations")
    for directory in (pictures, texts, annotations):
        directory.mkdir(parents=True, exist_ok=True)
    coco: dict[str, Any] = {
        "info": {"description": "yoloqat demo scenes, rendered", "version": f"seed {seed}"},
        "licenses": [{"id": 1, "name": "CC0 1.0", "url": "https://creativecommons.org/publicdomain/zero/1.0/"}],
        "images": [],
        "annotations": [],
        "categories": [{"id": index + 1, "name": thing.name} for index, thing in enumerate(CLASSES)],
    }
    for index in range(images):
        scene = render(seed, SPLITS[split], index)
        name = f"{index:04d}"
        cv2.imwrite(str(pictures / f"{name}.jpg"), scene.pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        (texts / f"{name}.txt").write_text("".join(f"{line}\n" for line in yolo_lines(scene)), encoding="utf-8")
        coco["images"].append(coco_image(index, f"{name}.jpg", scene))
        coco["annotations"].extend(coco_annotations(index, len(coco["annotations"]) + 1, scene))
    text = json.dumps(coco, separators=(",", ":"))
    (annotations / f"instances_{split}.json").write_text(text + "\n", encoding="utf-8")


def dataset_yaml() -> str:
    """Return the data set's YAML; its paths are relative to the file."""
    names = "".join(f"  {index}: {thing.name}\n" for index, thing in enumerate(CLASSES))
    return f"# Rendered demo scenes; see README.md\ntrain: images/train\nval: images/val\nnames:\n{names}"


def main() -> None:
    """Parse the command line and write the data set."""
    parser = argparse.ArgumentParser(description="Render the demo data set.")
    parser.add_argument("--out", type=Path, default=Path("data"), help="directory to write into")
    parser.add_argument("--train", type=int, default=TRAIN_IMAGES, help="training images")
    parser.add_argument("--val", type=int, default=VAL_IMAGES, help="validation images")
    parser.add_argument("--seed", type=int, default=SEED, help="seed of every image")
    args = parser.parse_args()
    for split, images in (("train", args.train), ("val", args.val)):
        write_split(args.out, split, images=images, seed=args.seed)
        print(f"{split}: {images} images in {args.out / 'images' / split}")
    (args.out / "demo.yaml").write_text(dataset_yaml(), encoding="utf-8")


if __name__ == "__main__":
    main()
