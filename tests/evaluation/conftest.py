"""Random detection problems, small data sets on the disk, and a predictor that needs no network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest

from yoloqat.datasets import DetectionDataset, ImageRecord
from yoloqat.evaluation import Detections
from yoloqat.predictor import Images, ModelInfo, RawOutputs

NAMES = {0: "cat", 1: "dog", 2: "owl"}


def random_problem(seed: int, images: int = 4, objects: int = 5, detections: int = 12):
    """Objects, some of them crowds, in three categories, and detections near them and elsewhere, all scores distinct."""
    rng = np.random.default_rng(seed)
    annotations, rows = [], []
    for image in range(1, images + 1):
        corner, side = rng.uniform(0, 150, (rng.integers(objects + 1), 2)), rng.uniform(8, 120, 2)
        labels = rng.integers(3, size=len(corner))
        for (x, y), label in zip(corner, labels, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": int(label) * 7,
                    "bbox": [float(x), float(y), float(side[0]), float(side[1])],
                    "area": float(side.prod() * rng.uniform(0.3, 1)),
                    "iscrowd": int(rng.random() < 0.2),
                }
            )
        count = int(rng.integers(detections + 1))
        start = rng.uniform(0, 150, (count, 2))
        own = rng.integers(3, size=count)
        for index in range(count if len(corner) else 0):
            if rng.random() < 0.7:
                target = rng.integers(len(corner))
                start[index] = corner[target] + rng.normal(0, 4, 2)
                own[index] = labels[target]
        sides = side * rng.uniform(0.85, 1.15, (count, 2))
        scores = rng.permutation(1000)[:count] / 1000 + image * 1e-5
        row = np.column_stack((start, start + sides, scores, own)).astype(np.float32)
        rows.append(row[np.argsort(-row[:, 4])])
    return problem_of(annotations, rows)


def problem_of(annotations, rows):
    count = len(rows)
    categories = [{"id": index * 7, "name": name} for index, name in NAMES.items()]
    content = {
        "images": [{"id": number} for number in range(1, count + 1)],
        "annotations": annotations,
        "categories": categories,
    }
    records = tuple(ImageRecord(Path(f"{number}.png"), number, 300, 300) for number in range(1, count + 1))
    return DetectionDataset(records, NAMES, content, "random"), Detections.of_images(range(1, count + 1), rows)


@pytest.fixture(scope="session")
def problem() -> Callable[..., tuple[DetectionDataset, Detections]]:
    return random_problem


@dataclass
class BlobPredictor:
    """Finds the one white rectangle of a dark image: box and score from its pixels, without a network."""

    info: ModelInfo = field(default_factory=lambda: ModelInfo(names={0: "cat", 1: "dog"}))
    seen: list[int] = field(default_factory=list)
    interrupt_after: int | None = None

    def __call__(self, images: Images) -> RawOutputs:
        if self.interrupt_after is not None and len(self.seen) >= self.interrupt_after:
            raise KeyboardInterrupt
        self.seen.append(len(images))
        return [np.stack([self._raw(image) for image in images])]

    def _raw(self, image: np.ndarray) -> np.ndarray:
        ys, xs = np.nonzero(image.mean(axis=0) > 0.8)
        raw = np.zeros((6, 3), dtype=np.float32)
        if len(ys):
            x1, x2, y1, y2 = xs.min(), xs.max() + 1, ys.min(), ys.max() + 1
            raw[:4, 0] = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
            raw[4, 0] = 0.5 + image.mean() / 2
        return raw


@pytest.fixture
def blob_predictor() -> type[BlobPredictor]:
    return BlobPredictor


@pytest.fixture
def blob_dataset(tmp_path: Path) -> DetectionDataset:
    """Nine images of different shapes, each with a white rectangle that is annotated as a cat."""
    rng = np.random.default_rng(0)
    records, annotations = [], []
    for number in range(1, 10):
        height, width = (int(side) for side in rng.integers(40, 120, 2))
        x, y = int(rng.integers(0, width // 2)), int(rng.integers(0, height // 2))
        w, h = width // 3, height // 3
        pixels = np.zeros((height, width, 3), np.uint8)
        pixels[y : y + h, x : x + w] = 255
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), pixels)
        records.append(ImageRecord(path, number, width, height))
        annotations.append(
            {"id": number, "image_id": number, "category_id": 0, "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0}
        )
    content = {
        "images": [{"id": record.image_id} for record in records],
        "annotations": annotations,
        "categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}],
    }
    return DetectionDataset(tuple(records), {0: "cat", 1: "dog"}, content, "blobs")


@pytest.fixture
def no_detections() -> Callable[[DetectionDataset], Detections]:
    def empty(dataset: DetectionDataset) -> Detections:
        return Detections.of_images(
            [r.image_id for r in dataset.images], [np.zeros((0, 6), np.float32)] * len(dataset.images)
        )

    return empty
