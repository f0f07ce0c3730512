"""The value of a metric from matches, to pycocotools' last digit, and its derivative by the weight of every image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from yoloqat.evaluation.average_precision import RECALLS
from yoloqat.evaluation.ground_truth import GroundTruth
from yoloqat.evaluation.image_matches import ImageMatches
from yoloqat.evaluation.matching import CategoryMatches, Matches


def assemble(truth: GroundTruth, positions: Sequence[int], found: Sequence[ImageMatches]) -> Matches:
    """Put the matches of single images together.

    Args:
        truth: What they were matched with.
        positions: The images' positions in ``truth.image_ids``, rising.
        found: The matches of each.
    """
    columns = np.concatenate([np.zeros(0, dtype=np.int16), *(image.columns for image in found)])
    scores = np.concatenate([np.zeros(0, dtype=np.float32), *(image.scores for image in found)]).astype(np.float64)
    bits = [
        np.concatenate([np.zeros(0, dtype=np.uint16), *(getattr(image, name) for image in found)])
        for name in ("correct", "ignored")
    ]
    images = np.repeat(np.arange(len(found)), [len(image.scores) for image in found])
    # stable, as pycocotools sorts: among equal scores the order of the images stays
    order = np.lexsort((-scores, columns))
    scores, images = scores[order], images[order]
    shifts = np.arange(len(truth.metric.thresholds), dtype=np.uint16)[:, None]
    correct, ignored = ((part[order] >> shifts & 1).astype(bool) for part in bits)
    ends = np.searchsorted(columns[order], np.arange(len(truth.category_ids) + 1))
    objects = truth.objects[np.asarray(positions, dtype=np.int64)]
    categories = []
    for column, category_id in enumerate(truth.category_ids):
        own = slice(ends[column], ends[column + 1])
        if objects[:, column].any():
            categories.append(
                CategoryMatches(
                    category_id, scores[own], images[own], correct[:, own], ignored[:, own], objects[:, column]
                )
            )
    return Matches(tuple(truth.image_ids[position] for position in positions), tuple(categories))


def mean_precision(matches: Matches) -> float | None:
    """Return the mean of interpolated precision over thresholds, recalls and categories, as pycocotools sums it.

    Returns:
        The metric that the matches were made for, equal bit for bit to pycocotools'; None where no object counts.
    """
    if not matches.categories:
        return None
    # pycocotools averages over an array (thresholds, recalls, categories) in that order
    whole = np.stack([_interpolated(category) for category in matches.categories], axis=-1)
    return float(np.mean(whole.ravel()))


def _interpolated(category: CategoryMatches) -> NDArray[np.float64]:
    """Return precision at each threshold and recall of :data:`RECALLS`, shape (thresholds, recalls)."""
    right = np.cumsum(category.correct, axis=1).astype(np.float64)
    wrong = np.cumsum(~category.correct & ~category.ignored, axis=1).astype(np.float64)
    recall = right / int(category.objects.sum())
    precision = right / (wrong + right + np.spacing(1))
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    result = np.zeros((len(recall), len(RECALLS)))
    for row, own in enumerate(recall):
        reached = np.searchsorted(own, RECALLS, side="left")
        reached = reached[reached < len(own)]
        result[row, : len(reached)] = envelope[row, reached]
    return result


def influence(matches: Matches) -> NDArray[np.float64]:
    r"""Return the derivative of mAP by the weight of each image.

    With the weights w of the images (1 each), the right detections p of one category at one threshold by falling score, TP
    and N the summed weights of right and of counted detections so far, and P that of the objects,

    .. math:: AP = \frac{1}{P} \sum_p w_{i(p)}\, e_p, \qquad e_p = \max_{q \ge p} \frac{TP_q}{N_q} = \pi_{q^*(p)}

    where a sum over all right detections stands for the mean over 101 recalls, which jumps and has no derivative. Then

    .. math:: \frac{\partial AP}{\partial w_i} = \frac{1}{P} \Big( \sum_{p \in i} e_p
              + \sum_q \frac{c_q}{N_q} (TP_q^{(i)} - \pi_q N_q^{(i)}) - AP \cdot P^{(i)} \Big)

    with c_q right detections whose maximum lies at q, and (i) marking the share of image i. The second sum is found from
    running sums from the end, so that the whole costs as much as computing AP once. The derivatives add up to 0.

    The infinitesimal jackknife (Efron, The Jackknife, the Bootstrap and Other Resampling Plans, 1982, chapter 6) takes
    the sum of their squares for the variance of mAP over images.

    Returns:
        Shape (images,), float64; zeros where no object counts.
    """
    total = np.zeros(len(matches.image_ids))
    for category in matches.categories:
        total += _category_influence(category)
    return total / max(len(matches.categories), 1)


def _category_influence(category: CategoryMatches) -> NDArray[np.float64]:
    images, thresholds = len(category.objects), len(category.correct)
    last = np.flatnonzero(category.correct.any(axis=0))
    if not len(last):
        return np.zeros(images)
    end = int(last[-1]) + 1  # what follows the last right detection cannot matter
    correct, counted = category.correct[:, :end], ~category.ignored[:, :end]
    objects = category.objects / int(category.objects.sum())
    number = np.cumsum(counted, axis=1)
    precision = np.cumsum(correct, axis=1) / np.maximum(number, 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    where = np.where(precision == envelope, np.arange(end), end)
    peak = np.minimum.accumulate(where[:, ::-1], axis=1)[:, ::-1]
    rows, columns = np.nonzero(correct)
    peaks = np.bincount(rows * end + peak[rows, columns], minlength=thresholds * end).reshape(thresholds, end)
    share = peaks / np.maximum(number, 1)
    gained = np.cumsum(share[:, ::-1], axis=1)[:, ::-1]
    lost = np.cumsum((share * precision)[:, ::-1], axis=1)[:, ::-1]
    each = np.where(correct, envelope + gained, 0.0) - np.where(counted, lost, 0.0)
    mean = np.where(correct, envelope, 0.0).sum() / thresholds
    total = np.bincount(category.image[:end], weights=each.sum(axis=0), minlength=images) / thresholds
    result: NDArray[np.float64] = total / int(category.objects.sum()) - mean / int(category.objects.sum()) * objects
    return result
