"""Non-maximum suppression of raw detector outputs.

The arithmetic is that of the validator of Ultralytics with several labels per box, so that its mAP can be compared with
ours. Its limit on wall-clock time is left out: detections that depend on how busy the machine is cannot be reproduced.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray

CLASS_OFFSET = 7680.0
"""Pixels by which the boxes of class c are moved, times c, so that boxes of different classes never overlap."""

MAX_CANDIDATES = 30000
"""Box and label pairs of one image that take part; the most confident ones."""

Raw: TypeAlias = NDArray[np.float32] | torch.Tensor


def non_max_suppression(
    raw: Raw,
    *,
    classes: int,
    conf: float = 0.001,
    iou: float = 0.7,
    max_det: int = 300,
    end2end: bool = False,
    extra: bool = False,
) -> list[NDArray[np.float32]]:
    """Turn raw outputs into detections.

    Args:
        raw: (batch, 4 + classes + extra, anchors): centre x, centre y, width, height in pixels, then a score per class,
            then what the task adds (mask coefficients, keypoints). Or, with ``end2end``, (batch, detections, 6 + extra):
            x1, y1, x2, y2, score, class.
        classes: Number of classes.
        conf: Scores of at most this are dropped.
        iou: Of two boxes of one class that overlap more than this, the less confident one is dropped.
        max_det: Detections kept per image.
        end2end: The head does its own NMS; only ``conf`` and ``max_det`` apply.
        extra: Return what the task adds too.

    Returns:
        Per image a float32 array (detections, 6) of x1, y1, x2, y2, score, class, by falling score (``end2end``: in the
        head's order); with ``extra`` (detections, 6 + extra).
    """
    if isinstance(raw, np.ndarray) and not raw.flags.writeable:  # torch warns of arrays that a runtime keeps to itself
        raw = raw.copy()
    tensor = torch.as_tensor(raw).float()
    with torch.inference_mode():
        if end2end:
            kept = [image[image[:, 4] > conf][:max_det, : None if extra else 6] for image in tensor]
        else:
            last = None if extra else 4 + classes
            kept = [_after_nms(image[:last], classes, conf, iou)[:max_det] for image in tensor]
        return [image.cpu().numpy() for image in kept]


def _candidates(image: torch.Tensor, classes: int, conf: float) -> torch.Tensor:
    """Return the pairs of box and label above ``conf`` as (pairs, 6 + extra), of one image's (4 + classes + extra, anchors)."""
    last = 4 + classes
    rows = image[:, image[4:last].amax(0) > conf].T
    centre, half = rows[:, :2], rows[:, 2:4] / 2
    corners = torch.cat((centre - half, centre + half), dim=1)
    box, label = torch.where(rows[:, 4:last] > conf)
    pairs = torch.cat((corners[box], rows[box, 4 + label, None], label[:, None].float(), rows[box, last:]), dim=1)
    if len(pairs) > MAX_CANDIDATES:
        pairs = pairs[pairs[:, 4].argsort(descending=True)[:MAX_CANDIDATES]]
    return pairs


def _after_nms(image: torch.Tensor, classes: int, conf: float, iou: float) -> torch.Tensor:
    pairs = _candidates(image, classes, conf)
    moved = pairs[:, :4] + pairs[:, 5:6] * CLASS_OFFSET
    kept: torch.Tensor = pairs[torchvision.ops.nms(moved, pairs[:, 4], iou)]
    return kept
