"""A predictor on a data set: forward, NMS, boxes back to the image, COCO metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloqat.config import EvalConfig
from yoloqat.config.sizes import check_pixels, checked_imgsz, sides, size_text
from yoloqat.datasets import (
    Batch,
    BatchPlan,
    DetectionDataset,
    match_categories,
    plan_batches,
    read_batches,
    warn_of_names,
)
from yoloqat.datasets.letterbox import PADDING
from yoloqat.errors import ConfigError, ModelError
from yoloqat.evaluation.coco import Metrics, metrics_of, run_cocoeval
from yoloqat.evaluation.detections import Detections
from yoloqat.evaluation.matching import Matches, matches_of
from yoloqat.evaluation.nms import non_max_suppression
from yoloqat.evaluation.nms_rotated import rotated_nms
from yoloqat.evaluation.store import DetectionStore
from yoloqat.predictor import Images, ModelInfo, Predictor
from yoloqat.progress import Progress, silent
from yoloqat.results import Plotted, Table, number

Chunks = Sequence[tuple[int, list[BatchPlan]]]
"""Batches that are finished together, with their place in the order."""


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation(Plotted):
    """What one evaluation found.

    Attributes:
        metrics: The COCO metrics.
        detections: Every detection, in pixels of the image files.
        matches: What intervals and subsets are computed from.
        labels_source: Which labels were scored against.
        warnings: What makes the metrics another thing than they seem, one line each.
    """

    metrics: Metrics
    detections: Detections
    matches: Matches
    labels_source: str
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics, the source of the labels and the warnings as a JSON-able dict."""
        warnings = {"warnings": list(self.warnings)} if self.warnings else {}
        return self.metrics.to_dict() | {"labels": self.labels_source, **warnings}

    def table(self, title: str = "", more: Sequence[tuple[str, str]] = ()) -> Table:
        """Return the metrics of all classes together as a table.

        Args:
            title: What was scored; the number of images and the labels where it is empty.
            more: Further rows.
        """
        names = ("mAP50-95", "mAP50", "mAP75", "mAP small", "mAP medium", "mAP large")
        metrics = self.metrics
        values = (
            *(metrics.map50_95, metrics.map50, metrics.map75),
            *(metrics.map_small, metrics.map_medium, metrics.map_large),
        )
        rows = tuple((name, number(value)) for name, value in zip(names, values, strict=True))
        reasons = [f"-: {reason}" for reason in dict.fromkeys(metrics.undefined.values())]
        title = title or f"{metrics.images} images, {self.labels_source}"
        return Table(title, ("metric", "value"), (*rows, *more), "\n".join([*reasons, *self.warnings]))

    def __repr__(self) -> str:
        """Return the table as text."""
        return str(self.table())

    def _repr_html_(self) -> str:
        return self.table().to_html()


def evaluate(
    predictor: Predictor,
    dataset: DetectionDataset,
    config: EvalConfig,
    *,
    progress: Progress = silent,
    store: DetectionStore | None = None,
    shared: Callable[[Chunks], Iterator[tuple[int, Detections]]] | None = None,
) -> Evaluation:
    """Score a predictor on a data set by COCO's metrics.

    Args:
        predictor: The model, in whatever runtime.
        dataset: Images and labels; categories are matched with the model's classes as
            :func:`yoloqat.datasets.match_categories` does.
        config: Image size, batch and NMS settings.
        progress: Told of every finished batch.
        store: Keeps finished chunks, so that the same call after an interruption goes on where it stopped.
        shared: Runs the model on chunks elsewhere and yields each when it is done; None runs ``predictor`` on one after another.

    Raises:
        ConfigError: The image size or batch does not fit the model.
        DataError: Names do not match, or an image does not decode.
        ModelError: The model's outputs have an unfit shape, or hold NaN or infinity.
        OutputError: A finished chunk cannot be stored.
    """
    warn_of_names(dataset, predictor.info.names)  # and tell of unfit ones, before the long part
    detections = detect(predictor, dataset, config, progress=progress, store=store, shared=shared)
    return replace(score(dataset, detections, predictor.info.names), warnings=scoring_warnings(predictor.info, config))


def scoring_warnings(info: ModelInfo, config: EvalConfig) -> tuple[str, ...]:
    """Return what a model does by itself that lowers its score, one line each."""
    if info.conf is None or info.conf <= config.conf:
        return ()
    return (
        f"the model drops boxes below a confidence of {info.conf:g} by itself, so that its mAP is lower than at {config.conf:g}; "
        f"export it without NMS, or with the confidence {config.conf:g}",
    )


def score(dataset: DetectionDataset, detections: Detections, names: dict[int, str]) -> Evaluation:
    """Score detections that were made before.

    Args:
        dataset: Images and labels.
        detections: The detections on all of its images.
        names: Class index to class name of the model that made them.

    Raises:
        DataError: The names do not match the data set's categories.
    """
    evaluator = run_cocoeval(dataset, detections.to_coco(match_categories(dataset, names)))
    return Evaluation(metrics_of(evaluator, dataset), detections, matches_of(evaluator), dataset.labels_source)


def detect(
    predictor: Predictor,
    dataset: DetectionDataset,
    config: EvalConfig,
    *,
    progress: Progress = silent,
    store: DetectionStore | None = None,
    shared: Callable[[Chunks], Iterator[tuple[int, Detections]]] | None = None,
) -> Detections:
    """Run a predictor over a data set and return its detections; arguments and errors are those of :func:`evaluate`."""
    check_fit(predictor.info, config)
    batch = predictor.info.batch or config.batch
    info = predictor.info
    plans = plan_batches(
        dataset.images, config.imgsz, batch, rect=config.rect, stride=info.stride, channels=info.channels
    )
    size = store.batches if store else max(len(plans), 1)
    chunks = [plans[start : start + size] for start in range(0, len(plans), size)]
    ids = [[record.image_id for plan in chunk for record in plan.records] for chunk in chunks]
    known = {} if store is None else {index: store.load(index, ids[index]) for index in range(len(chunks))}
    found = {index: detections for index, detections in known.items() if detections is not None}
    total, done = len(dataset.images), sum(len(ids[index]) for index in found)
    if found:
        progress("evaluate", done, total)

    def here(missing: Chunks) -> Iterator[tuple[int, Detections]]:
        for index, chunk in missing:
            yield (
                index,
                run_batches(predictor, chunk, config, progress=lambda rows: progress("evaluate", done + rows, total)),
            )

    for index, detections in (shared or here)([pair for pair in enumerate(chunks) if pair[0] not in found]):
        if store:
            store.save(index, detections)
        found[index] = detections
        done += len(ids[index])
        progress("evaluate", done, total)
    return Detections.joined([found[index] for index in range(len(chunks))])


def run_batches(
    predictor: Predictor,
    plans: Sequence[BatchPlan],
    config: EvalConfig,
    *,
    progress: Callable[[int], None] = lambda _images: None,
) -> Detections:
    """Run a predictor on some batches.

    Args:
        predictor: The model.
        plans: The batches.
        config: NMS settings.
        progress: Told after every batch how many images are done.

    Raises:
        DataError: An image does not decode.
        ModelError: The model's outputs have an unfit shape, or hold NaN or infinity.
    """
    rows: list[NDArray[np.float32]] = []
    with closing(read_batches(plans)) as batches:
        for batch in batches:
            raw = predictor(filled(batch.images, predictor.info.batch))[0][: len(batch.records)]
            rows += suppressed(raw, batch, predictor.info, config)
            progress(len(rows))
    return Detections.of_images([record.image_id for plan in plans for record in plan.records], rows)


def check_fit(info: ModelInfo, config: EvalConfig) -> None:
    """Check that a model takes the images that the settings ask for.

    Raises:
        ConfigError: The image size is no multiple of the stride, or not the one that the model is fixed to, or the batch that
            it is fixed to is none that a machine can hold.
    """
    asked = sides(config.imgsz)
    if any(side % info.stride for side in asked):
        lower = [max(side // info.stride, 1) * info.stride for side in asked]
        upper = [math.ceil(side / info.stride) * info.stride for side in asked]
        choices = dict.fromkeys(size_text(checked_imgsz(pair, low=1)).replace(" x", "") for pair in (lower, upper))
        raise ConfigError(
            f"imgsz is {size_text(config.imgsz)}",
            expected=f"a multiple of the model's stride {info.stride}",
            hint=f"set `imgsz` to {' or '.join(choices)}",
        )
    if info.batch is not None:
        check_pixels(config.imgsz, info.batch)
    if info.imgsz is not None and (config.rect or info.imgsz != asked):
        shape = " rectangular" if config.rect else ""
        raise ConfigError(
            f"imgsz is {size_text(config.imgsz)}{shape} and the model is fixed to {info.imgsz[0]} x {info.imgsz[1]}",
            expected="the size that the model was made for",
            hint="evaluate it at that size without `rect`, or make it again",
        )


def suppressed(
    raw: NDArray[np.float32], batch: Batch, info: ModelInfo, config: EvalConfig, *, extra: bool = False
) -> list[NDArray[np.float32]]:
    """Turn the raw output of a batch into the detections of each of its images.

    Args:
        raw: The first of a model's raw outputs, without what filled the batch up.
        batch: Where the images lie on their canvases.
        info: The model's classes and head.
        config: NMS settings.
        extra: Return what the task adds too, as it is on the canvas.

    Returns:
        Per image x1, y1, x2, y2 in pixels of the image file, score, class; shape (detections, 6), float32, or with ``extra``
        (detections, 6 + extra).

    Raises:
        ModelError: The output has an unfit shape, holds NaN or infinity, or names a class that the model has not.
    """
    check_raw(raw, info, batch)
    suppress = rotated_nms if info.task == "obb" else non_max_suppression
    kept = suppress(
        raw,
        classes=info.classes,
        conf=config.conf,
        iou=config.nms_iou,
        max_det=config.max_det,
        end2end=info.end2end,
        extra=extra,
    )
    _check_classes(kept, info)
    for detections, geometry in zip(kept, batch.geometries, strict=True):
        detections[:, :4] = geometry.to_original(detections[:, :4])
    return kept


def filled(images: Images, batch: int | None) -> Images:
    """Fill a last, smaller batch up with grey images for a model whose batch is fixed."""
    if batch is None or len(images) == batch:
        return images
    filler = np.full((batch - len(images), *images.shape[1:]), PADDING / 255, dtype=np.float32)
    return np.concatenate((images, filler))


def _check_classes(kept: list[NDArray[np.float32]], info: ModelInfo) -> None:
    """Check the classes that a model gives by itself, where its output is what its metadata say: boxes, score, class."""
    found = np.concatenate([detections[:, 5] for detections in kept])
    unknown = found[~((found >= 0) & (found < info.classes) & (found == np.floor(found)))]
    if unknown.size:
        raise ModelError(
            f"the model's output has an object of the class {unknown[0]:g}",
            expected=f"whole numbers from 0 to {info.classes - 1}: as its metadata have it, it does its own NMS",
            hint="export it again",
        )


def check_raw(raw: NDArray[np.float32], info: ModelInfo, batch: Batch) -> None:
    """Check the first raw output of a batch.

    Raises:
        ModelError: It has an unfit shape, or holds NaN or infinity.
    """
    fits = raw.ndim == 3 and len(raw) == len(batch.records)
    more = 0 if info.end2end or not fits else raw.shape[1] - 4 - info.classes  # masks, keypoints or angles
    if not fits or (raw.shape[2] < 6 if info.end2end else more < 0 or (more > 0 and info.task == "detect")):
        wanted = "detections, 6" if info.end2end else f"{4 + info.classes}, anchors"
        raise ModelError(
            f"the model's raw output has the shape {raw.shape}",
            expected=f"({len(batch.records)}, {wanted})",
            hint="check that it is a detector with the class names it states",
        )
    finite = np.isfinite(raw).all(axis=(1, 2))
    if not finite.all():
        record = batch.records[int(np.flatnonzero(~finite)[0])]
        raise ModelError(
            f"the model's raw output for image '{record.path}' holds NaN or infinity",
            expected="finite boxes and scores",
            hint="calibrate again, or leave the layers that overflow in floating point",
        )
