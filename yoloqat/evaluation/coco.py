"""COCO metrics by pycocotools, the reference implementation, unchanged."""

from __future__ import annotations

import contextlib
import io
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from yoloqat.datasets import DetectionDataset

ALL_AREAS = 0
"""Index of the area range that holds every object, in pycocotools' arrays."""

LARGEST_SPAN = (0.0, 1e10)
"""Areas between which an object counts at all, in square pixels, both included."""

MOST_DETECTIONS = -1
"""Index of the largest number of detections (100), in pycocotools' arrays."""


@dataclass(frozen=True)
class Metrics:
    """COCO metrics as fractions, unrounded; None where the data set has no object to measure them on.

    Attributes:
        map50_95: Mean average precision over IoU 0.50 to 0.95 in steps of 0.05.
        map50: The same at IoU 0.50.
        map75: The same at IoU 0.75.
        map_small: mAP50-95 of objects below 32 x 32 pixels.
        map_medium: mAP50-95 of objects from 32 x 32 to 96 x 96 pixels.
        map_large: mAP50-95 of larger objects.
        images: Number of scored images.
        per_class: Class name to ``map50_95``, ``map50`` and ``annotations`` (objects that are no crowd).
        undefined: Name of each metric that is None to the reason.
    """

    map50_95: float | None
    map50: float | None
    map75: float | None
    map_small: float | None
    map_medium: float | None
    map_large: float | None
    images: int
    per_class: dict[str, dict[str, float | int | None]]
    undefined: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return them as a JSON-able dict."""
        return asdict(self)


def _indexed(content: dict[str, Any]) -> Any:
    coco = COCO()
    # pycocotools writes into the entries it is given; the data set stays what it was
    coco.dataset = content | {"annotations": [dict(entry) for entry in content["annotations"]]}
    coco.createIndex()
    return coco


def _results(dataset: DetectionDataset, results: list[dict[str, Any]]) -> dict[str, Any]:
    """Give COCO results the ids and areas that pycocotools gives them when it loads them."""
    annotations = [
        result | {"id": number, "area": result["bbox"][2] * result["bbox"][3], "iscrowd": 0}
        for number, result in enumerate(results, start=1)
    ]
    return dataset.annotations | {"annotations": annotations}


def run_cocoeval(dataset: DetectionDataset, results: list[dict[str, Any]]) -> Any:
    """Return pycocotools' evaluator for boxes with its own defaults, after evaluating, accumulating and summarizing.

    Args:
        dataset: The data set with its annotations.
        results: COCO results, as :meth:`Detections.to_coco` returns.
    """
    # pycocotools reports by printing; a stage must not
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator = COCOeval(_indexed(dataset.annotations), _indexed(_results(dataset, results)), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator


def _mean(precision: NDArray[np.float64]) -> float | None:
    """Return the mean over the entries that have an object; pycocotools marks the others with -1."""
    valid = precision[precision > -1]
    return float(valid.mean()) if valid.size else None


def unscored(dataset: DetectionDataset) -> str | None:
    """Return why no object of a data set counts, by the rules of pycocotools, or None where one does.

    Args:
        dataset: Images and labels.
    """
    objects = dataset.annotations["annotations"]
    if not objects:
        return "the data set has no object"
    alone = [entry for entry in objects if not entry["iscrowd"]]
    if not alone:
        return f"all {len(objects)} objects are crowds"
    low, high = LARGEST_SPAN
    if not any(low <= entry["area"] <= high for entry in alone):
        return f"the area of none of {len(alone)} objects is from {low:g} to {high:g}, e.g. {alone[0]['area']}"
    return None


def metrics_of(evaluator: Any, dataset: DetectionDataset) -> Metrics:
    """Read the metrics out of what :func:`run_cocoeval` returned."""
    stats = [None if value < 0 else float(value) for value in evaluator.stats[:6]]
    precision = evaluator.eval["precision"]  # IoU, recall, category, area, detections
    names = {entry["id"]: entry["name"] for entry in dataset.annotations["categories"]}
    objects = [entry["category_id"] for entry in dataset.annotations["annotations"] if not entry["iscrowd"]]
    per_class: dict[str, dict[str, float | int | None]] = {}
    for index, category in enumerate(evaluator.params.catIds):
        own = precision[:, :, index, ALL_AREAS, MOST_DETECTIONS]
        per_class[names[category]] = {
            "map50_95": _mean(own),
            "map50": _mean(own[0]),
            "annotations": objects.count(category),
        }
    keys = ("map50_95", "map50", "map75", "map_small", "map_medium", "map_large")
    found = dict(zip(keys, stats, strict=True))
    reason = unscored(dataset) or "no object of this size counts"
    undefined = {key: reason for key, value in found.items() if value is None}
    return Metrics(**found, images=len(dataset.images), per_class=per_class, undefined=undefined)
