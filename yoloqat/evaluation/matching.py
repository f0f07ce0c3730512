"""Which detection is right at which IoU threshold, kept so that mAP can be found again for any weights of the images.

Matching a detection with an object looks at one image alone, so mAP on a bootstrap resample or on half of the images
needs no new matching: only the accumulation changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloqat.evaluation.coco import ALL_AREAS


@dataclass(frozen=True, eq=False)
class CategoryMatches:
    """The detections of one category by falling score, and its objects.

    Attributes:
        category_id: The category.
        scores: Confidences, shape (detections,), float64.
        image: Index of each detection's image, shape (detections,), int64.
        correct: Whether a detection matches an object, shape (thresholds, detections), bool.
        ignored: Whether a detection counts neither way (it lies on a crowd), shape (thresholds, detections), bool.
        objects: Objects of the category in each image that count, shape (images,), int64.
    """

    category_id: int
    scores: NDArray[np.float64]
    image: NDArray[np.int64]
    correct: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    objects: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Matches:
    """The matches of one evaluation, of objects of all sizes and at most 100 detections per image and category.

    Attributes:
        image_ids: Ids of the images, rising; their positions are the image indices.
        categories: The categories that have an object that counts.
    """

    image_ids: tuple[int, ...]
    categories: tuple[CategoryMatches, ...]


def matches_of(evaluator: Any) -> Matches:
    """Read the matches out of what :func:`~yoloqat.evaluation.coco.run_cocoeval` returned."""
    params = evaluator.params
    images, areas = list(params.imgIds), len(params.areaRng)
    categories = []
    for index, category in enumerate(params.catIds):
        first = (index * areas + ALL_AREAS) * len(images)
        found = _category(int(category), evaluator.evalImgs[first : first + len(images)], len(params.iouThrs))
        if found.objects.any():
            categories.append(found)
    return Matches(tuple(int(image) for image in images), tuple(categories))


def _category(category_id: int, per_image: list[dict[str, Any] | None], thresholds: int) -> CategoryMatches:
    scores = np.concatenate([np.zeros(0), *(entry["dtScores"] for entry in per_image if entry)])
    counts = [len(entry["dtScores"]) if entry else 0 for entry in per_image]
    none = np.zeros((thresholds, 0), dtype=bool)
    matched = np.concatenate([none, *(entry["dtMatches"] != 0 for entry in per_image if entry)], axis=1)
    ignored = np.concatenate([none, *(entry["dtIgnore"] != 0 for entry in per_image if entry)], axis=1)
    # stable, as pycocotools sorts: among equal scores the order of the images stays
    order = np.argsort(-scores, kind="stable")
    return CategoryMatches(
        category_id=category_id,
        scores=scores[order],
        image=np.repeat(np.arange(len(per_image)), counts)[order],
        correct=(matched & ~ignored)[:, order],
        ignored=ignored[:, order],
        objects=np.array([int((entry["gtIgnore"] == 0).sum()) if entry else 0 for entry in per_image], dtype=np.int64),
    )


def subset(matches: Matches, mask: NDArray[np.bool_]) -> Matches:
    """Return the matches of some of the images only.

    Args:
        matches: The matches of all images.
        mask: True for the images to keep, shape (images,), bool, in the order of ``matches.image_ids``.
    """
    position = np.cumsum(mask) - 1
    categories = []
    for category in matches.categories:
        kept = mask[category.image]
        part = CategoryMatches(
            category_id=category.category_id,
            scores=category.scores[kept],
            image=position[category.image[kept]],
            correct=category.correct[:, kept],
            ignored=category.ignored[:, kept],
            objects=category.objects[mask],
        )
        if part.objects.any():
            categories.append(part)
    image_ids = tuple(number for number, keep in zip(matches.image_ids, mask.tolist(), strict=True) if keep)
    return Matches(image_ids, tuple(categories))
