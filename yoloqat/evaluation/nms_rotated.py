"""NMS of rotated boxes, and the upright boxes around the remaining ones."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from yoloqat.detectors.ultralytics_import import ultralytics_module
from yoloqat.evaluation.nms import CLASS_OFFSET, Raw

MAX_CANDIDATES = 3000
"""Box and label pairs of one image that take part; every pair of them is compared."""


def rotated_nms(
    raw: Raw,
    *,
    classes: int,
    conf: float = 0.001,
    iou: float = 0.7,
    max_det: int = 300,
    end2end: bool = False,
    extra: bool = False,
) -> list[NDArray[np.float32]]:
    """Turn raw outputs of a rotated-box model into detections with upright boxes around the rotated ones.

    Overlap is the probabilistic IoU of Ultralytics (Llerena et al., Gaussian Bounding Boxes and Probabilistic
    Intersection-over-Union, 2021), and NMS is its fast NMS (Bolya et al., YOLACT, 2019).

    Args:
        raw: (batch, 4 + classes + 1, anchors): centre x, centre y, width, height in pixels, a score per class, the angle in
            radians. Or, with ``end2end``, (batch, detections, 7): centre x, centre y, width, height, score, class, angle.
        classes: Number of classes.
        conf: Scores of at most this are dropped.
        iou: Of two boxes of one class that overlap more than this, the less confident one is dropped.
        max_det: Detections kept per image.
        end2end: The head does its own NMS.
        extra: Return the rotated boxes too.

    Returns:
        Per image a float32 array (detections, 6) of x1, y1, x2, y2, score, class, by falling score; with ``extra``
        (detections, 11), which end in centre x, centre y, width, height, angle.
    """
    tensor = torch.as_tensor(np.array(raw) if isinstance(raw, np.ndarray) else raw).float()
    with torch.inference_mode():
        if end2end:
            rows = [image[image[:, 4] > conf][:max_det] for image in tensor]
        else:
            rows = [_after_nms(image, classes, conf, iou)[:max_det] for image in tensor]
        found = []
        for row in rows:
            rotated = [row[:, :4], row[:, 6:7]] if extra else []
            found.append(torch.cat((upright(row[:, :4], row[:, 6]), row[:, 4:6], *rotated), dim=1).cpu().numpy())
        return found


def upright(boxes: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    """Return the upright boxes around rotated ones.

    Args:
        boxes: Centre x, centre y, width, height, shape (boxes, 4).
        angle: Radians, shape (boxes,).

    Returns:
        Corners x1, y1, x2, y2, shape (boxes, 4).
    """
    cos, sin = angle.cos().abs(), angle.sin().abs()
    width, height = boxes[:, 2], boxes[:, 3]
    half = torch.stack((width * cos + height * sin, width * sin + height * cos), dim=1) / 2
    return torch.cat((boxes[:, :2] - half, boxes[:, :2] + half), dim=1)


def _after_nms(image: torch.Tensor, classes: int, conf: float, iou: float) -> torch.Tensor:
    rows = image[:, image[4 : 4 + classes].amax(0) > conf].T
    box, label = torch.where(rows[:, 4 : 4 + classes] > conf)
    scores = rows[box, 4 + label]
    best = scores.argsort(descending=True, stable=True)[:MAX_CANDIDATES]
    box, label, scores = box[best], label[best], scores[best]
    pairs = torch.cat((rows[box, :4], scores[:, None], label[:, None].float(), rows[box, 4 + classes :]), dim=1)
    moved = torch.cat((pairs[:, :2] + pairs[:, 5:6] * CLASS_OFFSET, pairs[:, 2:4], pairs[:, 6:7]), dim=1)
    overlap = ultralytics_module("utils.metrics").batch_probiou
    kept: torch.Tensor = pairs[ultralytics_module("utils.nms").TorchNMS.fast_nms(moved, scores, iou, iou_func=overlap)]
    return kept
