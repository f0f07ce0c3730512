r"""mAP50-95 of images that count several times or not at all, for many sets of weights at once.

The formula is pycocotools'. With the detections of a category by falling score, TP and FP the summed weights of right and
wrong detections so far, and P the summed weight of its objects,

    precision = TP / (TP + FP + eps),  recall = TP / P,  AP = mean over r in {0, 0.01, ..., 1} of max precision at recall >= r

Only the right detections need to be looked at: between two of them precision falls and recall stays, so neither the
maximum nor the first position that reaches a recall lies there. The mean over the recalls is then a sum over the right
detections of (maximal precision from there on) x (number of recalls that are reached first there).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from yoloqat.evaluation.matching import CategoryMatches, Matches

RECALLS = np.linspace(0.0, 1.0, 101)
"""The recalls at which precision is averaged; made as pycocotools makes them, so that comparisons agree."""

_BLOCK = 2_000_000
"""Weights that are gathered at once, so that memory stays bounded and the processor's cache is used."""


def mean_average_precision(matches: Matches, weights: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
    """Return mAP50-95 for each set of image weights.

    Args:
        matches: The matches of an evaluation.
        weights: How often each image counts, shape (images, sets), whole numbers; default one set of ones.

    Returns:
        Shape (sets,); NaN where no object counts.
    """
    count = len(matches.image_ids)
    columns = np.ones((count, 1), dtype=np.int64) if weights is None else np.asarray(weights, dtype=np.int64)
    total, present = np.zeros(columns.shape[1]), np.zeros(columns.shape[1])
    for category in matches.categories:
        objects = category.objects @ columns
        total += np.where(objects > 0, _average_precision(category, columns, objects), 0.0)
        present += objects > 0
    with np.errstate(invalid="ignore"):
        result: NDArray[np.float64] = total / present
    return result


def _average_precision(
    category: CategoryMatches, weights: NDArray[np.int64], objects: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return a category's AP averaged over the IoU thresholds, shape (sets,); without meaning where ``objects`` is 0."""
    hits = np.flatnonzero(category.correct.any(axis=0))
    sets = weights.shape[1]
    if not len(hits):
        return np.zeros(sets)
    block = max(1, _BLOCK // int(hits[-1] + 1))
    parts = [
        _block_precision(category, hits, weights[:, start : start + block], objects[start : start + block])
        for start in range(0, sets, block)
    ]
    return np.concatenate(parts)


def _block_precision(
    category: CategoryMatches, hits: NDArray[np.int64], weights: NDArray[np.int64], objects: NDArray[np.int64]
) -> NDArray[np.float64]:
    # what follows the last right detection cannot matter
    gathered = weights.astype(np.int32)[category.image[: hits[-1] + 1]]
    seen = np.cumsum(
        np.add.reduceat(gathered, np.concatenate(([0], hits[:-1] + 1)), axis=0, dtype=np.int32), axis=0, dtype=np.int32
    )
    total = np.zeros(weights.shape[1])
    for correct, ignored in zip(category.correct, category.ignored, strict=True):
        positions = np.flatnonzero(correct)
        if len(positions):
            counted = seen[np.searchsorted(hits, positions)] - _ignored_before(ignored, positions, gathered)
            right = np.cumsum(gathered[positions], axis=0, dtype=np.int32)
            total += _interpolated(right, counted, objects)
    return total / len(category.correct)


def _ignored_before(
    ignored: NDArray[np.bool_], positions: NDArray[np.int64], gathered: NDArray[np.int32]
) -> NDArray[np.int32]:
    """Return the summed weights of the ignored detections before each position, shape (positions, sets)."""
    where = np.flatnonzero(ignored[: len(gathered)])
    sums = np.cumsum(np.concatenate((np.zeros_like(gathered[:1]), gathered[where])), axis=0, dtype=np.int32)
    result: NDArray[np.int32] = sums[np.searchsorted(where, positions)]
    return result


def _interpolated(
    right: NDArray[np.int32], counted: NDArray[np.int32], objects: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return AP from the summed weights of right and of all detections at each right one, both (positions, sets)."""
    precision = right / (counted + np.spacing(1))
    envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    reached = np.searchsorted(RECALLS, right / np.maximum(objects, 1), side="right")
    steps = np.diff(reached, axis=0, prepend=0)
    result: NDArray[np.float64] = np.einsum("ps,ps->s", envelope, steps) / len(RECALLS)
    return result
