"""The objects of a data set, indexed once, and the matching of one image's detections with them.

The rules are those of pycocotools (``COCOeval.evaluateImg``), which are greedy: detections by falling score, each takes the
free object that it overlaps most, objects that count before objects that are ignored. The overlaps are computed by
pycocotools' own compiled code, so that not even a last digit can differ; the greedy part looks at nothing but pairs of one
category that overlap enough, which are a few dozen per image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask

from yoloqat.datasets import DetectionDataset, match_categories
from yoloqat.evaluation.image_matches import ImageMatches
from yoloqat.evaluation.metric import Metric

MAX_DETECTIONS = 100
"""Detections per image and category that are looked at, the most confident ones, as in COCO's metrics."""

_NEARLY_ONE = 1 - 1e-10


@dataclass(frozen=True, eq=False)
class ImageObjects:
    """The objects of one image, those that count first.

    Attributes:
        boxes: x, y, width, height in pixels, shape (objects, 4), float64.
        columns: Index of each object's category among the scored ones, shape (objects,), int64.
        crowd: Whether it is a crowd, shape (objects,), uint8.
        ignored: Whether it counts neither way (a crowd, or of another size than asked for), shape (objects,), bool.
    """

    boxes: NDArray[np.float64]
    columns: NDArray[np.int64]
    crowd: NDArray[np.uint8]
    ignored: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """The objects of a data set under one metric.

    Attributes:
        metric: What is asked for.
        image_ids: Ids of the images, rising.
        category_ids: The categories that have an object that counts; their positions are the columns.
        objects: Objects that count, shape (images, categories), int64.
        class_columns: Column of each class of the model, -1 for classes that are not scored, shape (classes,), int64.
        images: The objects of each image.
    """

    metric: Metric
    image_ids: tuple[int, ...]
    category_ids: tuple[int, ...]
    objects: NDArray[np.int64]
    class_columns: NDArray[np.int64]
    images: tuple[ImageObjects, ...]

    @classmethod
    def of(cls, dataset: DetectionDataset, names: dict[int, str], metric: Metric) -> GroundTruth:
        """Index a data set.

        Args:
            dataset: Images and labels.
            names: Class index to class name of the model.
            metric: What is asked for.

        Raises:
            ConfigError: The metric names a class that the data set lacks.
            DataError: The names do not match the data set's categories.
        """
        of_class = match_categories(dataset, names)
        wanted = set(metric.categories(dataset))
        image_ids = tuple(sorted(record.image_id for record in dataset.images))
        grouped: dict[int, list[dict[str, object]]] = {number: [] for number in image_ids}
        for entry in dataset.annotations["annotations"]:
            if entry["image_id"] in grouped and entry["category_id"] in wanted:
                grouped[entry["image_id"]].append(entry)
        low, high = metric.area

        def is_ignored(entry: dict[str, object]) -> bool:
            area = float(entry["area"])  # type: ignore[arg-type]
            return bool(entry["iscrowd"]) or area < low or area > high

        counted = {entry["category_id"] for own in grouped.values() for entry in own if not is_ignored(entry)}
        category_ids = tuple(sorted(counted))  # type: ignore[type-var]
        column = {category: index for index, category in enumerate(category_ids)}
        images = []
        for number in image_ids:
            own = sorted((entry for entry in grouped[number] if entry["category_id"] in column), key=is_ignored)
            images.append(
                ImageObjects(
                    boxes=np.array([entry["bbox"] for entry in own], dtype=np.float64).reshape(-1, 4),
                    columns=np.array([column[entry["category_id"]] for entry in own], dtype=np.int64),
                    crowd=np.array([entry["iscrowd"] for entry in own], dtype=np.uint8),
                    ignored=np.array([is_ignored(entry) for entry in own], dtype=bool),
                )
            )
        objects = np.zeros((len(image_ids), len(category_ids)), dtype=np.int64)
        for position, image in enumerate(images):
            np.add.at(objects[position], image.columns[~image.ignored], 1)
        class_columns = np.array(
            [column.get(of_class.get(index, -1), -1) for index in range(len(names))], dtype=np.int64
        )
        return cls(metric, image_ids, category_ids, objects, class_columns, tuple(images))  # type: ignore[arg-type]

    def match(self, position: int, detections: NDArray[np.float32]) -> ImageMatches:
        """Match the detections of one image.

        Args:
            position: The image's position in :attr:`image_ids`.
            detections: x1, y1, x2, y2 in pixels of the image file, score, class; shape (detections, 6), float32.
        """
        columns = self.class_columns[detections[:, 5].astype(np.int64)]
        # stable, as pycocotools sorts: among equal scores the order of the detections stays
        order = np.lexsort((-detections[:, 4].astype(np.float64), columns))
        order = order[np.searchsorted(columns[order], 0) :]
        first = np.searchsorted(columns[order], columns[order])
        order = order[np.arange(len(order)) - first < MAX_DETECTIONS]
        columns = columns[order]
        boxes = detections[order, :4].astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        low, high = self.metric.area
        area = boxes[:, 2] * boxes[:, 3]
        matched, ignored = self._greedy(self.images[position], boxes, columns)
        every = np.uint16((1 << len(self.metric.thresholds)) - 1)
        outside = np.where((area < low) | (area > high), every, np.uint16(0))
        return ImageMatches(
            columns=columns.astype(np.int16),
            scores=detections[order, 4],
            correct=matched & ~ignored,
            ignored=ignored | (outside & ~matched),
        )

    def _greedy(
        self, image: ImageObjects, boxes: NDArray[np.float64], columns: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
        """Return at which thresholds a detection is matched, and at which with an ignored object, as bits."""
        matched, on_ignored = [0] * len(boxes), [0] * len(boxes)
        if len(boxes) and len(image.boxes):
            thresholds = np.minimum(self.metric.thresholds, _NEARLY_ONE)
            overlaps = mask.iou(np.ascontiguousarray(boxes), image.boxes, image.crowd)
            near = (overlaps >= thresholds[0]) & (columns[:, None] == image.columns)
            pairs: dict[int, list[tuple[int, float]]] = {}
            for row, other in zip(*(axis.tolist() for axis in np.nonzero(near)), strict=True):
                pairs.setdefault(row, []).append((other, float(overlaps[row, other])))
            crowd, ignored = image.crowd.tolist(), image.ignored.tolist()
            for bit, threshold in enumerate(thresholds.tolist()):
                taken: set[int] = set()
                for row, candidates in pairs.items():
                    best = _best(candidates, threshold, taken, ignored)
                    if best >= 0:
                        matched[row] |= 1 << bit
                        on_ignored[row] |= int(ignored[best]) << bit
                        if not crowd[best]:
                            taken.add(best)
        return np.array(matched, dtype=np.uint16), np.array(on_ignored, dtype=np.uint16)


def _best(candidates: list[tuple[int, float]], threshold: float, taken: set[int], ignored: list[bool]) -> int:
    """Return the free object that overlaps most, the later of equals, ignored ones only if no other will do; or -1."""
    best = -1
    for other, overlap in candidates:
        if other in taken:
            continue
        if best >= 0 and ignored[other] and not ignored[best]:
            break
        if overlap >= threshold:
            threshold, best = overlap, other
    return best
