"""What a model sees in an image, by its task: boxes, and masks, keypoints or rotated boxes with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from yoloqat.datasets import Letterboxed
from yoloqat.predictor import ModelInfo


@dataclass(frozen=True, eq=False)
class SeenObject:
    """One object, in pixels of the image file.

    Attributes:
        box: x1, y1, x2, y2; of a rotated box the upright one around it.
        score: Confidence.
        label: The class's index.
        corners: Of a rotated box, shape (4, 2).
        mask: True inside, shape (height, width) of the image.
        keypoints: x, y and, where the model tells it, visibility; shape (keypoints, 2 or 3).
    """

    box: tuple[float, float, float, float]
    score: float
    label: int
    corners: NDArray[np.float32] | None = None
    mask: NDArray[np.bool_] | None = None
    keypoints: NDArray[np.float32] | None = None

    def to_dict(self, names: dict[int, str]) -> dict[str, Any]:
        """Return it as a JSON-able dict; a mask as ``segmentation``, polygons of x, y, x, y, ... as in COCO."""
        found: dict[str, Any] = {"class": names[self.label], "class_id": self.label, "score": self.score}
        found["box"] = list(self.box)
        if self.corners is not None:
            found["corners"] = self.corners.tolist()
        if self.mask is not None:
            outlines = cv2.findContours(self.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
            found["segmentation"] = [outline.reshape(-1).tolist() for outline in outlines if len(outline) > 2]
        if self.keypoints is not None:
            found["keypoints"] = self.keypoints.tolist()
        return found


def objects_of(
    rows: NDArray[np.float32], protos: NDArray[np.float32] | None, geometry: Letterboxed, info: ModelInfo
) -> list[SeenObject]:
    """Return the objects of one image.

    Args:
        rows: What :func:`yoloqat.evaluation.scoring.suppressed` returns with ``extra``, shape (objects, 6 + extra).
        protos: Prototype masks of the image, shape (prototypes, height, width); None where the model gives none.
        geometry: Where the image lies on its canvas.
        info: The model's task.
    """
    extra, count = rows[:, 6:], len(rows)
    corners: list[Any] = [None] * count
    masks: list[Any] = [None] * count
    keypoints: list[Any] = [None] * count
    if info.task == "obb" and extra.shape[1] == 5:
        corners = [geometry.points_to_original(_rotated(row)) for row in extra]
    if info.task == "segment" and protos is not None and extra.shape[1] == len(protos):
        masks = [_mask(row[6:], row[:4], protos, geometry) for row in rows]
    if info.task == "pose" and extra.shape[1]:
        keypoints = [_keypoints(row, geometry) for row in extra]
    return [
        SeenObject((x1, y1, x2, y2), score, int(label), *more)
        for (x1, y1, x2, y2, score, label), *more in zip(rows[:, :6].tolist(), corners, masks, keypoints, strict=True)
    ]


def _rotated(row: NDArray[np.float32]) -> NDArray[np.float32]:
    x, y, width, height, angle = row.tolist()
    along = np.array([np.cos(angle), np.sin(angle)], dtype=np.float32) * width / 2
    across = np.array([-np.sin(angle), np.cos(angle)], dtype=np.float32) * height / 2
    centre = np.array([x, y], dtype=np.float32)
    return np.stack(
        [centre - along - across, centre + along - across, centre + along + across, centre - along + across]
    )


def _mask(
    coefficients: NDArray[np.float32], box: NDArray[np.float32], protos: NDArray[np.float32], geometry: Letterboxed
) -> NDArray[np.bool_]:
    """Return a mask in pixels of the image file: the prototypes' sum above 0 within the box."""
    logits = np.tensordot(coefficients, protos, axes=1).astype(np.float32)
    height, width = geometry.shape
    canvas = cv2.resize(logits, (width, height), interpolation=cv2.INTER_LINEAR)
    (top, left), (gain_y, gain_x) = geometry.padding, geometry.gain
    rows, columns = geometry.original
    inner = canvas[top : top + max(1, round(rows * gain_y)), left : left + max(1, round(columns * gain_x))]
    inside: NDArray[np.bool_] = cv2.resize(inner, (columns, rows), interpolation=cv2.INTER_LINEAR) > 0
    x1, y1, x2, y2 = (round(side) for side in box.tolist())
    found = np.zeros_like(inside)
    found[y1:y2, x1:x2] = inside[y1:y2, x1:x2]
    return found


def _keypoints(row: NDArray[np.float32], geometry: Letterboxed) -> NDArray[np.float32]:
    visible = len(row) % 3 == 0 and bool(((row[2::3] >= 0) & (row[2::3] <= 1)).all())
    points = row.reshape(-1, 3 if visible else 2).copy()
    points[:, :2] = geometry.points_to_original(points[:, :2])
    return points
