"""Fidelity: how far the raw outputs of a model are from those of the float model, image by image, without labels.

A drop of mAP has an interval of about 0.01 on some hundred images, which hides what 8-bit quantization costs. The raw outputs
of all anchors tell on a few images what it changes. The first measure is the noise ``d``: the class probabilities' absolute
differences over all anchors and classes, relative to the sum of the float model's probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloqat.errors import ModelError
from yoloqat.evaluation.interval import LEVEL, ONE_IMAGE, Resampling
from yoloqat.evaluation.overlap import box_iou, keypoint_similarity, mask_iou, pairwise_iou, rotated_iou
from yoloqat.predictor import ModelInfo, RawOutputs

BELIEVED = 0.25
"""The float model believes in an anchor whose highest class probability is above this."""

MATCHED = 0.5
"""IoU from which a detection of the one model and one of the other, of the same class, are the same object."""

MOST_MASKS = 32
"""Believed anchors of an image whose masks are compared, the most confident ones: neighbours have nearly the same mask."""

NOISE, BOX, SHIFT = "d", "box_disagreement", "score_shift"

Measures = dict[str, NDArray[np.float64]]
"""Values of each measure by image, shape (images,); NaN where an image has nothing to measure it on."""


def noise(p: NDArray[np.float32], q: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the noise d of every image: sum |q - p| / sum p; NaN where the float model sees nothing at all.

    Args:
        p: Class probabilities of the float model before NMS, shape (images, classes, anchors).
        q: Those of the other model, of the same shape.
    """
    axes = tuple(range(1, p.ndim))
    signal = p.sum(axis=axes, dtype=np.float64)
    error = np.abs(q - p).sum(axis=axes, dtype=np.float64)
    found: NDArray[np.float64] = np.divide(error, signal, out=np.full(len(p), np.nan), where=signal > 0)
    return found


def noise_only(floating: RawOutputs, other: RawOutputs, info: ModelInfo) -> NDArray[np.float64]:
    """Return what :func:`measure` returns under ``d``, without the rest, which takes longer."""
    if info.end2end:
        return measure(floating, other, info)[NOISE]
    _check(floating, other, info, info.end2end)
    last = 4 + info.classes
    return noise(floating[0][:, 4:last], other[0][:, 4:last])


def measure(floating: RawOutputs, other: RawOutputs, info: ModelInfo, *, end2end: bool | None = None) -> Measures:
    """Compare the raw outputs of two models on the same images.

    Args:
        floating: Of the float model.
        other: Of the other model.
        info: Classes and task of both, and the head of the float model.
        end2end: Whether the other model does its own NMS; None where it is as ``info`` says.

    Returns:
        ``d``, the noise; ``box_disagreement``, 1 - IoU of the boxes at the anchors that the float model believes in (rotated
        boxes by probabilistic IoU); ``score_shift``, by how much the probability of the believed class changed there, positive
        where it rose; of masks ``mask_disagreement``, 1 - IoU, and of keypoints ``keypoint_disagreement``, 1 - OKS.
        A head that does its own NMS has no anchors in common: there a detection and one of the other model are the same where
        they have the same class and overlap by at least :data:`MATCHED`; what has no partner counts whole in ``d``.

    Raises:
        ModelError: The two do not have the same outputs.
    """
    _check(floating, other, info, info.end2end if end2end is None else end2end)
    if info.end2end:
        return _of_detections(floating, other, info)
    return _of_anchors(floating, other, info)


def _check(floating: RawOutputs, other: RawOutputs, info: ModelInfo, end2end: bool) -> None:
    p, q = floating[0], other[0]
    # lists of detections may differ in length
    same = (
        info.end2end == end2end and p.ndim == q.ndim and (p.shape == q.shape or (end2end and p.shape[0] == q.shape[0]))
    )
    if not same:
        raise ModelError(
            f"the raw outputs have the shapes {p.shape} and {q.shape}, which cannot be compared",
            expected="the same anchors from both models, or NMS in both",
            hint="compare a model with the float model that it was made from",
        )


def _of_anchors(floating: RawOutputs, other: RawOutputs, info: ModelInfo) -> Measures:
    p, q = floating[0], other[0]
    last = 4 + info.classes
    found: Measures = {NOISE: noise_only(floating, other, info)}
    rows: list[dict[str, float]] = []
    for image in range(len(p)):
        scores = p[image, 4:last]
        top = scores.max(axis=0)
        believed = np.flatnonzero(top > BELIEVED)
        believed = believed[np.argsort(-top[believed], kind="stable")]
        classes = scores[:, believed].argmax(axis=0)
        a, b = p[image][:, believed].T, q[image][:, believed].T
        shift = b[np.arange(len(b)), 4 + classes] - a[np.arange(len(a)), 4 + classes]
        protos = None if len(floating) < 2 or len(other) < 2 else (floating[1][image], other[1][image])
        rows.append(_of_pairs(a[:, :4], b[:, :4], a[:, last:], b[:, last:], shift, info, protos))
    return found | _columns(rows)


def _of_detections(floating: RawOutputs, other: RawOutputs, info: ModelInfo) -> Measures:
    rows = []
    for image in range(len(floating[0])):
        a, b = floating[0][image], other[0][image]
        own, partner = matched(a, b, rotated=info.task == "obb")
        signal = float(a[:, 4].sum(dtype=np.float64))
        alone = a[:, 4].sum(dtype=np.float64) - a[own, 4].sum(dtype=np.float64)
        alone += b[:, 4].sum(dtype=np.float64) - b[partner, 4].sum(dtype=np.float64)
        shift = b[partner, 4] - a[own, 4]
        d = (alone + np.abs(shift).sum(dtype=np.float64)) / signal if signal > 0 else np.nan
        sure = a[own, 4] > BELIEVED
        a, b = a[own[sure]], b[partner[sure]]
        first, second = (side[:, :4] if info.task == "obb" else _centred(side[:, :4]) for side in (a, b))
        protos = None if len(floating) < 2 or len(other) < 2 else (floating[1][image], other[1][image])
        rows.append({NOISE: float(d)} | _of_pairs(first, second, a[:, 6:], b[:, 6:], shift[sure], info, protos))
    return _columns(rows)


def _of_pairs(
    a: NDArray[np.float32],
    b: NDArray[np.float32],
    a_extra: NDArray[np.float32],
    b_extra: NDArray[np.float32],
    shift: NDArray[np.float32],
    info: ModelInfo,
    protos: tuple[NDArray[np.float32], NDArray[np.float32]] | None,
) -> dict[str, float]:
    """Return the measures of pairs of boxes (centre and size) with what the task adds to each, of one image."""
    angles = info.task == "obb" and a_extra.shape[1] > 0
    overlap = rotated_iou(a, b, a_extra[:, 0], b_extra[:, 0]) if angles else box_iou(a, b)
    found = {BOX: _mean(1.0 - overlap), SHIFT: _mean(shift)}
    if info.task == "segment":
        kept = slice(0, MOST_MASKS)
        masks = mask_iou(a[kept], b[kept], a_extra[kept], b_extra[kept], *protos) if protos is not None else np.zeros(0)
        found["mask_disagreement"] = _mean(1.0 - masks)
    if info.task == "pose":
        found["keypoint_disagreement"] = _mean(1.0 - keypoint_similarity(a, a_extra, b_extra))
    return found


def matched(
    a: NDArray[np.float32], b: NDArray[np.float32], *, rotated: bool = False
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pair the detections of two models: the most confident of the first takes the one that it overlaps most, and so on.

    Args:
        a: x1, y1, x2, y2, score, class, more; shape (detections, 6 or more). With ``rotated`` centre and size, score, class,
            angle.
        b: The same of the other model.
        rotated: The boxes are rotated.

    Returns:
        The positions of the pairs in ``a`` and in ``b``.
    """
    free = np.ones(len(b), dtype=bool)
    own, partner = [], []
    for index in np.argsort(-a[:, 4], kind="stable"):
        candidates = np.flatnonzero(free & (b[:, 5] == a[index, 5]))
        if not candidates.size:
            continue
        if rotated:
            first = np.repeat(a[index : index + 1], len(candidates), axis=0)
            overlap = rotated_iou(first[:, :4], b[candidates, :4], first[:, 6], b[candidates, 6])
        else:
            overlap = pairwise_iou(a[index : index + 1, :4], b[candidates, :4])[0]
        best = int(overlap.argmax())
        if overlap[best] >= MATCHED:
            free[candidates[best]] = False
            own.append(index)
            partner.append(candidates[best])
    return np.asarray(own, dtype=np.intp), np.asarray(partner, dtype=np.intp)


def _centred(corners: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.concatenate(((corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]), axis=1)


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean(dtype=np.float64)) if len(values) else float("nan")


def _columns(rows: Sequence[Mapping[str, float]]) -> Measures:
    return {name: np.asarray([row[name] for row in rows], dtype=np.float64) for name in (rows[0] if rows else ())}


@dataclass(frozen=True)
class Mean:
    """A mean over images with its 95 % interval.

    Attributes:
        value: The mean over the images that have a value; NaN where none has.
        low: Lower end of the interval; NaN of fewer than two images.
        high: Upper end.
        images: How many images have a value.
    """

    value: float
    low: float
    high: float
    images: int

    def to_dict(self, name: str) -> dict[str, Any]:
        """Return the result keys of this mean under ``name``: the value, and its interval or why there is none."""
        if not self.images:
            return {name: None, f"{name}_ci95": None, f"{name}_ci95_reason": "no image has anything to measure it on"}
        if self.images < 2:
            return {name: self.value, f"{name}_ci95": None, f"{name}_ci95_reason": ONE_IMAGE}
        return {name: self.value, f"{name}_ci95": [self.low, self.high]}


def mean(values: NDArray[np.float64], seed: int = 0) -> Mean:
    """Return the mean of a measure over images with its percentile bootstrap interval.

    Args:
        values: One per image, shape (images,); NaN is left out.
        seed: Seeds the resamples.
    """
    values = values[np.isfinite(values)]
    images = len(values)
    if images < 2:
        return Mean(float(values[0]) if images else math.nan, math.nan, math.nan, images)
    return around(float(values.mean()), values @ Resampling(images, seed=seed).weights() / images, images)


def around(value: float, resampled: NDArray[np.float64], images: int) -> Mean:
    """Return a value of two or more images with its percentile interval.

    Args:
        value: Of all images.
        resampled: Of each resample of the images; NaN, where one has nothing to measure it on, is left out.
        images: How many there are.
    """
    low, high = np.percentile(resampled[np.isfinite(resampled)], [50.0 - LEVEL / 2, 50.0 + LEVEL / 2])
    return Mean(value, min(float(low), value), max(float(high), value), images)
