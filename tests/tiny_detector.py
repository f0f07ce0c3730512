"""A detector of a few thousand weights and a data set of a few small images, real enough to go the whole way.

The labels are the float detector's own confident detections, so that its mAP is high and every loss by quantization shows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import nn

from yoloqat.detectors import TorchPredictor, load_detector
from yoloqat.detectors.ultralytics import build
from yoloqat.evaluation.nms import non_max_suppression

NAMES = {0: "disc", 1: "box", 2: "star"}
IMGSZ = 64
STRIDE = 16
VALIDATION_IMAGES, TRAINING_IMAGES = 10, 8

_YAML: dict[str, Any] = {
    "nc": len(NAMES),
    "backbone": [
        [-1, 1, "Conv", [16, 3, 2]],
        [-1, 1, "Conv", [32, 3, 2]],
        [-1, 1, "C2f", [32, True]],
        [-1, 1, "Conv", [32, 3, 2]],
        [-1, 1, "Conv", [48, 3, 2]],
        [-1, 1, "SPPF", [48, 5]],
    ],
    "head": [
        [-1, 1, "nn.Upsample", [None, 2, "nearest"]],
        [[-1, 3], 1, "Concat", [1]],
        [-1, 1, "C2f", [32]],
        [[8, 5], 1, "Detect", ["nc"]],
    ],
}
ARCHITECTURE = {"task": "detect", "yaml": _YAML, "channels": 3, "classes": len(NAMES)}


@dataclass(frozen=True)
class TinyData:
    """A small data set in both forms: a YAML with label files, and a COCO pair of the same images and boxes."""

    yaml: Path
    images: Path
    annotations: Path
    train: Path


def render(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return one image of 48 to 96 pixels a side: coloured shapes on a slope."""
    height, width = (int(side) for side in rng.integers(48, 97, size=2))
    slope = np.linspace(rng.uniform(0, 120), rng.uniform(120, 255), width)[None, :, None]
    image = np.broadcast_to(slope, (height, width, 3)).astype(np.uint8).copy()
    for _ in range(int(rng.integers(3, 7))):
        centre = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        colour = tuple(int(value) for value in rng.integers(0, 256, size=3))
        if rng.random() < 0.5:
            cv2.circle(image, centre, int(rng.integers(4, 16)), colour, -1)
        else:
            size = int(rng.integers(6, 28))
            cv2.rectangle(image, centre, (centre[0] + size, centre[1] + size), colour, -1)
    return image


def make_module(seed: int = 0, *, channels: int = 3) -> nn.Module:
    """Return the detector with seeded weights whose activations and scores are spread like those of a trained one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = build(ARCHITECTURE | {"channels": channels})
        for parameter in module.parameters():
            if parameter.ndim == 4:
                nn.init.kaiming_normal_(parameter)
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # a plain mean over the batches
    rng = np.random.default_rng(seed)
    pixels = np.stack([cv2.resize(render(rng), (IMGSZ, IMGSZ)) for _ in range(16)])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    images = torch.cat((images, images), dim=1)[:, :channels]
    head: Any = module.model[-1]
    with torch.inference_mode():
        module.train()
        module(images)
        module.eval()
    with torch.no_grad():
        for branch in head.cv3:
            branch[-1].weight.mul_(0.5)
            branch[-1].bias.fill_(-4.0)
        for branch in head.cv2:
            branch[-1].weight.mul_(0.5)
            branch[-1].bias.copy_(-0.5 * (torch.arange(64) % 16).float())
    module.names = NAMES
    module.args = {"imgsz": IMGSZ}
    module.task = "detect"
    return module


def save_module(module: nn.Module, path: Path) -> Path:
    """Save a module as Ultralytics saves what it trained."""
    torch.save({"model": module.half(), "ema": None, "train_args": {"imgsz": IMGSZ}, "epoch": -1}, path)
    return path


def _labels(predictor: TorchPredictor, image: NDArray[np.uint8], *, keep: int) -> list[tuple[int, NDArray[np.float64]]]:
    """Return class and corners of the detector's most confident detections, in pixels of an image of its size."""
    raw = predictor(np.ascontiguousarray(image[None, ..., ::-1].transpose(0, 3, 1, 2), dtype=np.float32) / 255)[0]
    found = non_max_suppression(raw, classes=len(NAMES), conf=0.05, iou=0.7)[0][:keep]
    height, width = image.shape[:2]
    return [(int(row[5]), np.clip(row[:4].astype(np.float64), 0, [width, height] * 2)) for row in found]


def make_data(
    directory: Path,
    checkpoint: Path,
    *,
    images: int = VALIDATION_IMAGES,
    seed: int = 7,
    size: tuple[int, int] = (IMGSZ, IMGSZ),
) -> TinyData:
    """Write the data set: images of the height and width that the detector is to run at for validation, others for training."""
    height, width = size
    rng = np.random.default_rng(seed)
    predictor = TorchPredictor(load_detector(checkpoint))
    data = TinyData(
        directory / "data.yaml", directory / "images" / "val", directory / "coco.json", directory / "images" / "train"
    )
    labels = directory / "labels" / "val"
    for path in (data.images, data.train, labels):
        path.mkdir(parents=True)
    coco: dict[str, Any] = {"images": [], "annotations": []}
    coco["categories"] = [{"id": 10 + index, "name": name} for index, name in NAMES.items()]
    for number in range(images):
        image = cv2.resize(render(rng), (width, height))
        cv2.imwrite(str(data.images / f"{number:03d}.png"), image)
        coco["images"].append({"id": number + 1, "file_name": f"{number:03d}.png", "width": width, "height": height})
        lines = []
        for label, (x1, y1, x2, y2) in _labels(predictor, image, keep=6):
            box = np.array([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1])
            lines.append(f"{label} " + " ".join(f"{value:.6f}" for value in box / [width, height, width, height]))
            annotation = {"id": len(coco["annotations"]) + 1, "image_id": number + 1, "category_id": 10 + label}
            coco["annotations"].append(annotation | {"bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": 0})
        (labels / f"{number:03d}.txt").write_text("\n".join(lines) + "\n")
    for number in range(TRAINING_IMAGES):
        cv2.imwrite(str(data.train / f"{number:03d}.png"), render(rng))
    data.annotations.write_text(json.dumps(coco))
    content = {"path": ".", "train": "images/train", "val": "images/val", "names": NAMES}
    data.yaml.write_text(yaml.safe_dump(content))
    return data
