"""Any model on images or a video: what it sees, as data and as pictures."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from yoloqat.config import EvalConfig
from yoloqat.datasets import Batch, ImageRecord, plan_batches, read_batches
from yoloqat.datasets.images import decode, find_images, image_size, is_image, readable_images
from yoloqat.datasets.video import EXTENSIONS, VideoFile, is_video, open_video, read_frames
from yoloqat.errors import DataError, OutputError
from yoloqat.evaluation.objects import SeenObject, objects_of
from yoloqat.evaluation.reference import raw_outputs
from yoloqat.evaluation.scoring import check_fit, suppressed
from yoloqat.pipeline.models import OpenModel
from yoloqat.pipeline.run import Run
from yoloqat.predictor import ModelInfo
from yoloqat.provenance import atomic_directory
from yoloqat.report.drawing import Mark, class_colour, drawn
from yoloqat.results import Result, Table, counted

PICTURES = "pictures"
_LONGEST = 1600
"""Long side of a drawn image in pixels; larger ones are shrunk, frames of a video never."""
_LEAST_VISIBLE = 0.5
_SHOWN = 20
Pixels = NDArray[np.uint8]
Keep = Callable[[ImageRecord, Pixels, list[Mark]], str]
"""Draws an image and returns the name of the file that holds it."""


@dataclass(frozen=True, eq=False, repr=False)
class Predictions(Result):
    """What a model sees.

    Attributes:
        names: Class index to class name.
        task: The model's task.
    """

    names: dict[int, str]
    task: str


def predict_source(
    model: OpenModel,
    source: Path,
    config: EvalConfig,
    *,
    run: Run,
    pictures: Path | None = None,
    skipped: list[Path] | None = None,
) -> Predictions:
    """Run a model on an image, a directory of images or a video.

    Args:
        model: The model.
        source: The file or directory.
        config: Image size, batch, confidence and NMS.
        run: Who watches.
        pictures: Directory that gets ``pictures``, whole or not at all; None draws nothing.
        skipped: Takes the images that do not decode, which are left out; None refuses them.

    Returns:
        ``predictions``: for each image or frame ``image`` or ``frame``, ``width``, ``height`` and ``objects``.

    Raises:
        ConfigError: The image size does not fit the model.
        DataError: The source is missing, of another kind, or does not decode.
        ModelError: The model's outputs are unfit.
        OutputError: A picture cannot be written.
    """
    info = model.predictor.info
    check_fit(info, config)
    video = open_video(source) if source.is_file() and is_video(source) else None
    paths = [] if video is not None else readable_images(list(_images(source)), skipped)
    if video is None and not paths:
        raise DataError(f"no image of '{source}' decodes", expected="at least one whole image", hint="restore one")
    records = [_record(path, number) for number, path in enumerate(paths, start=1)]
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        folder = None if pictures is None else stack.enter_context(atomic_directory(pictures / PICTURES))
        keep = None if folder is None else stack.enter_context(_video(folder, video) if video else _files(folder))
        batches = _batches(records, video, config, info, drawing=keep is not None)
        total = len(records) if video is None else video.frames
        for batch, pixels in batches:
            for record, image, seen in zip(batch.records, pixels, _seen(model, batch, config), strict=True):
                row: dict[str, Any] = {"image": str(record.path)} if video is None else {"frame": record.image_id}
                row |= {"width": record.width, "height": record.height}
                row["objects"] = [one.to_dict(info.names) for one in seen]
                if keep is not None:
                    row["picture"] = f"{PICTURES}/{keep(record, image, [_mark(one, info.names) for one in seen])}"
                rows.append(row)
            run.progress("predict", len(rows), max(total, len(rows)))
    counts: dict[str, int] = {}
    for row in rows:
        for one in row["objects"]:
            counts[one["class"]] = counts.get(one["class"], 0) + 1
    counts = dict(sorted(counts.items(), key=lambda entry: -entry[1]))
    results = {"images": len(rows), "objects": sum(counts.values()), "task": info.task, "classes": counts}
    about = {} if video is None else {"video": str(source), "frames_per_second": video.rate}
    table = _table(model.name, rows, counts)
    return Predictions(results | about | {"predictions": rows}, table, info.names, info.task)


def _images(source: Path) -> Sequence[Path]:
    if source.is_dir():
        return find_images(source)
    if not source.is_file() or not is_image(source):
        known = f"neither an image nor a video by its name (videos: {', '.join(sorted(EXTENSIONS))})"
        raise DataError(
            f"'{source}' {f'is {known}' if source.is_file() else 'does not exist'}",
            expected="an image, a directory of images, or a video",
            hint="check the path",
        )
    return [source]


def _record(path: Path, number: int) -> ImageRecord:
    return ImageRecord(path, number, *image_size(path))


def _batches(
    records: Sequence[ImageRecord], video: VideoFile | None, config: EvalConfig, info: ModelInfo, *, drawing: bool
) -> Iterator[tuple[Batch, list[Pixels]]]:
    """Yield batches with the pixels to draw on, which are empty where nothing is drawn."""
    size = info.batch or config.batch
    if video is not None:
        with closing(read_frames(video.path, config.imgsz, size, channels=info.channels)) as frames:
            yield from frames
        return
    plans = plan_batches(records, config.imgsz, size, channels=info.channels)
    none = np.zeros((0, 0, 3), dtype=np.uint8)
    with closing(read_batches(plans)) as batches:
        for batch in batches:
            yield batch, [decode(one.path, info.channels) if drawing else none for one in batch.records]


def _seen(model: OpenModel, batch: Batch, config: EvalConfig) -> Iterator[list[SeenObject]]:
    info = model.predictor.info
    raw = raw_outputs(model.predictor, batch)
    found = suppressed(raw[0], batch, info, config, extra=True)
    for index, (rows, geometry) in enumerate(zip(found, batch.geometries, strict=True)):
        protos = raw[1][index] if len(raw) > 1 and raw[1].ndim == 4 else None
        yield objects_of(rows, protos, geometry, info)


def _mark(one: SeenObject, names: dict[int, str]) -> Mark:
    x1, y1, x2, y2 = one.box
    outline = ((x1, y1), (x2, y2)) if one.corners is None else tuple((x, y) for x, y in one.corners.tolist())
    points = [] if one.keypoints is None else one.keypoints.tolist()
    shown = tuple((point[0], point[1]) for point in points if len(point) < 3 or point[2] >= _LEAST_VISIBLE)
    return Mark(outline, class_colour(one.label), f"{names[one.label]} {one.score:.2f}", mask=one.mask, points=shown)


@contextmanager
def _files(folder: Path) -> Iterator[Keep]:
    def keep(record: ImageRecord, image: Pixels, marks: list[Mark]) -> str:
        name = f"{record.image_id:04d}_{re.sub(r'[^0-9A-Za-z_-]', '_', record.path.stem)[:80]}.jpg"
        drawn(image, marks[::-1], longest=_LONGEST).save(folder / name, quality=90)
        return name

    yield keep


@contextmanager
def _video(folder: Path, video: VideoFile) -> Iterator[Keep]:
    name = f"{re.sub(r'[^0-9A-Za-z_-]', '_', video.path.stem)[:80]}.mp4"
    writers: list[cv2.VideoWriter] = []

    def keep(record: ImageRecord, image: Pixels, marks: list[Mark]) -> str:
        if not writers:
            code = cv2.VideoWriter.fourcc(*"mp4v")
            writers.append(cv2.VideoWriter(str(folder / name), code, video.rate, (record.width, record.height)))
            if not writers[0].isOpened():
                raise OutputError(
                    f"OpenCV cannot write the video '{name}' of {record.width} x {record.height} pixels",
                    expected="an OpenCV that writes MP4",
                    hint="predict without pictures",
                )
        writers[0].write(np.ascontiguousarray(np.asarray(drawn(image, marks[::-1]))[:, :, ::-1]))
        return name

    try:
        yield keep
    finally:
        for writer in writers:
            writer.release()


def _table(name: str, rows: Sequence[dict[str, Any]], counts: dict[str, int]) -> tuple[Table, ...]:
    cells = []
    for row in rows[:_SHOWN]:
        own: dict[str, int] = {}
        for one in row["objects"]:
            own[one["class"]] = own.get(one["class"], 0) + 1
        place = Path(row["image"]).name if "image" in row else f"frame {row['frame']}"
        cells.append((place, str(len(row["objects"])), ", ".join(f"{count} {label}" for label, count in own.items())))
    more = f" (the first {_SHOWN})" if len(rows) > _SHOWN else ""
    head = f"{name}: {counted(sum(counts.values()), 'object')} on {counted(len(rows), 'image')}{more}"
    return (Table(head, ("image", "objects", "classes"), tuple(cells), left=(2,)),)
