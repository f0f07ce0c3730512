"""Overlap of pairs of boxes, rotated boxes, masks and keypoints."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from yoloqat.detectors.ultralytics_import import ultralytics_module

COCO_SIGMAS = (
    np.asarray(
        [0.26, 0.25, 0.25, 0.35, 0.35, 0.79, 0.79, 0.72, 0.72, 0.62, 0.62, 1.07, 1.07, 0.87, 0.87, 0.89, 0.89],
        dtype=np.float64,
    )
    / 10.0
)
"""Per keypoint of a person, the spread of annotations relative to the object's scale (pycocotools, Params.setKpParams)."""

_LEAST = 1e-9


def _corners(boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    boxes = boxes.astype(np.float64)
    return np.concatenate((boxes[:, :2] - boxes[:, 2:4] / 2, boxes[:, :2] + boxes[:, 2:4] / 2), axis=1)


def box_iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the IoU of each box with the one of the same row; (boxes, 4) of centre x, centre y, width, height."""
    return _iou(_corners(a), _corners(b))


def pairwise_iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the IoU of every box of ``a`` with every box of ``b``, shape (a, b); boxes are corners x1, y1, x2, y2."""
    first, second = a.astype(np.float64)[:, None], b.astype(np.float64)[None]
    return _iou(first, second)


def _iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    common = np.prod(np.clip(high - low, 0.0, None), axis=-1)
    areas = [np.prod(np.clip(box[..., 2:] - box[..., :2], 0.0, None), axis=-1) for box in (a, b)]
    whole = areas[0] + areas[1] - common
    # two boxes without an area are the same where their corners are
    empty = np.all(a == b, axis=-1).astype(np.float64)
    found: NDArray[np.float64] = np.where(whole > 0, common / np.maximum(whole, _LEAST), empty)
    return found


def rotated_iou(
    a: NDArray[np.float32], b: NDArray[np.float32], a_angle: NDArray[np.float32], b_angle: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the probabilistic IoU of each rotated box with the one of the same row, as Ultralytics computes it.

    Args:
        a: Centre x, centre y, width, height, shape (boxes, 4).
        b: The same of the other boxes.
        a_angle: Radians, shape (boxes,).
        b_angle: Of the other boxes.
    """
    if not len(a):
        return np.zeros(0)
    first, second = (
        torch.from_numpy(np.concatenate((boxes, angles[:, None]), axis=1).astype(np.float64))
        for boxes, angles in ((a, a_angle), (b, b_angle))
    )
    found: NDArray[np.float64] = ultralytics_module("utils.metrics").probiou(first, second).reshape(-1).numpy()
    return found


def mask_iou(
    a: NDArray[np.float32],
    b: NDArray[np.float32],
    a_coefficients: NDArray[np.float32],
    b_coefficients: NDArray[np.float32],
    a_protos: NDArray[np.float32],
    b_protos: NDArray[np.float32],
) -> NDArray[np.float64]:
    """Return the IoU of each mask with the one of the same row, both within the box around the two boxes.

    Args:
        a: Boxes as centre x, centre y, width, height, relative to the prototypes' side as the image is, shape (boxes, 4).
        b: Of the other model.
        a_coefficients: Mask coefficients, shape (boxes, prototypes).
        b_coefficients: Of the other model.
        a_protos: Prototype masks, shape (prototypes, height, width), a quarter of the image's size.
        b_protos: Of the other model.
    """
    height, width = a_protos.shape[1:]
    masks = []
    for boxes, coefficients, protos in ((a, a_coefficients, a_protos), (b, b_coefficients, b_protos)):
        corners = _corners(boxes) / 4.0  # prototypes have a quarter of the image's side in every Ultralytics head
        whole = (coefficients @ protos.reshape(len(protos), -1)).reshape(-1, height, width) > 0
        column, row = np.arange(width) + 0.5, np.arange(height) + 0.5
        inside = (column >= corners[:, :1]) & (column < corners[:, 2:3])
        beside = (row >= corners[:, 1:2]) & (row < corners[:, 3:4])
        masks.append(whole & inside[:, None, :] & beside[:, :, None])
    common, either = (masks[0] & masks[1]).sum(axis=(1, 2)), (masks[0] | masks[1]).sum(axis=(1, 2))
    return np.where(either > 0, common / np.maximum(either, 1), 1.0)


def keypoint_similarity(
    boxes: NDArray[np.float32], a: NDArray[np.float32], b: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the object keypoint similarity (OKS) of each row of keypoints with that of the other model.

    Where every third number lies in [0, 1] it is a visibility, and keypoints below 0.5 do not count.

    Args:
        boxes: The float model's boxes as centre and size, whose area is the scale, shape (boxes, 4).
        a: The float model's keypoints: x, y in pixels, and the visibility where there is one; shape (boxes, numbers).
        b: The other model's.
    """
    numbers = a.shape[1]
    visible = numbers % 3 == 0 and bool(((a[:, 2::3] >= 0) & (a[:, 2::3] <= 1)).all())
    each = 3 if visible else 2
    first, second = (rows.reshape(len(rows), numbers // each, each).astype(np.float64) for rows in (a, b))
    count = first.shape[1]
    sigmas = COCO_SIGMAS if count == len(COCO_SIGMAS) else np.full(count, 1.0 / max(count, 1))
    area = np.maximum(np.prod(boxes[:, 2:4].astype(np.float64), axis=1), _LEAST)[:, None]
    distance = ((first[..., :2] - second[..., :2]) ** 2).sum(axis=-1)
    similarity = np.exp(-distance / (2.0 * area * (2.0 * sigmas) ** 2))
    counted = first[..., 2] >= 0.5 if visible else np.ones_like(similarity, dtype=bool)
    total = counted.sum(axis=1)
    return np.where(total > 0, (similarity * counted).sum(axis=1) / np.maximum(total, 1), 1.0)
