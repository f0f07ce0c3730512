"""A float model's raw outputs on some images, that any number of models are compared with."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloqat.config import EvalConfig
from yoloqat.datasets import Batch, DetectionDataset, ImageRecord, plan_batches, read_batches
from yoloqat.errors import DataError
from yoloqat.evaluation.detections import Detections
from yoloqat.evaluation.fidelity import BELIEVED, NOISE, SHIFT, Mean, Measures, around, mean, measure
from yoloqat.evaluation.interval import Resampling, bootstrap
from yoloqat.evaluation.matching import Matches
from yoloqat.evaluation.scoring import check_fit, filled, score, suppressed
from yoloqat.predictor import ModelInfo, Predictor, RawOutputs
from yoloqat.progress import Progress, silent
from yoloqat.provenance import atomic_path
from yoloqat.results import Table, counted, number

FIDELITY_MAP = "fidelity_map"


@dataclass(frozen=True, eq=False, repr=False)
class Fidelity:
    """How far a model is from the float model.

    Attributes:
        measures: Of :func:`yoloqat.evaluation.fidelity.measure`, by image.
        image_ids: The images, in the order of the measures.
        matches: The model's detections against the float model's above :data:`~yoloqat.evaluation.fidelity.BELIEVED`, for
            fidelity mAP; None where that was not asked for, or where the float model detects nothing.
        fidelity_map: mAP50-95 of these; None where there is none.
        detections: The model's detections; None where fidelity mAP was not asked for.
    """

    measures: Measures
    image_ids: tuple[int, ...]
    matches: Matches | None = None
    fidelity_map: float | None = None
    detections: Detections | None = None

    @property
    def d(self) -> Mean:
        """The noise d with its interval."""
        return mean(self.measures[NOISE])

    def save(self, path: Path) -> None:
        """Keep the measures as one ``.npz`` file, whole or not at all; what fidelity mAP comes from is not kept.

        Raises:
            OutputError: The file cannot be written.
        """
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, image_ids=np.asarray(self.image_ids, dtype=np.int64), **self.measures)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path, image_ids: Sequence[int]) -> Fidelity | None:
        """Return what :meth:`save` kept, or None where it is missing, unreadable or of other images than ``image_ids``."""
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
                measures = dict(arrays)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            return None
        if measures.pop("image_ids", np.zeros(0)).tolist() != list(image_ids):
            return None
        return cls(measures, tuple(image_ids))

    def to_dict(self) -> dict[str, Any]:
        """Return every measure with its 95 % interval as a JSON-able dict, and ``fidelity_images``."""
        found: dict[str, Any] = {"fidelity_images": len(self.image_ids)}
        for name, values in self.measures.items():
            found |= mean(values).to_dict(name)
        if self.matches is not None and self.fidelity_map is not None:
            images, value = len(self.image_ids), self.fidelity_map
            one = Mean(value, value, value, images)
            whole = one if images < 2 else around(value, bootstrap(self.matches, Resampling(images)), images)
            found |= whole.to_dict(FIDELITY_MAP)
        return found

    def table(self, title: str = "") -> Table:
        """Return the measures as a table.

        Args:
            title: What was compared.
        """
        found = self.to_dict()
        rows = []
        for name in [*self.measures, *([FIDELITY_MAP] if FIDELITY_MAP in found else [])]:
            ends = found[f"{name}_ci95"]
            shown = "-" if ends is None else f"[{ends[0]:.4f}, {ends[1]:.4f}]"
            rows.append((name, number(found[name]), shown))
        worse = f"{NOISE} and disagreements: lower is better; {FIDELITY_MAP}: higher is; {SHIFT}: 0 is best"
        images = counted(len(self.image_ids), "image")
        return Table(
            f"{title}, {images}" if title else images, ("measure", "value", "95 % interval"), tuple(rows), worse
        )

    def __repr__(self) -> str:
        """Return the table as text."""
        return str(self.table())

    def _repr_html_(self) -> str:
        return self.table().to_html()


def check_comparison(info: ModelInfo, images: Sequence[ImageRecord], config: EvalConfig) -> None:
    """Check that there are images to compare models on, and that their size fits.

    Raises:
        ConfigError: The image size does not fit the model.
        DataError: There is no image.
    """
    if not images:
        raise DataError("there are 0 images to compare models on", expected="at least one", hint="name images")
    check_fit(info, config)


class Reference:
    """Keeps a float model's raw outputs and the images' batches.

    The outputs of 64 images at 640 pixels take 180 MB for 80 classes.

    Args:
        predictor: The float model.
        images: What both models run on; labels are not needed.
        config: Image size, batch and NMS settings; always the letterbox, never rectangular batches.
        detections: Whether fidelity mAP is measured too, which needs NMS.
        progress: Told of every finished batch.

    Attributes:
        detections: The float model's; None where none were asked for.

    Raises:
        ConfigError: The image size does not fit the model.
        DataError: There is no image, or one does not decode.
        ModelError: The outputs have an unfit shape, or hold NaN or infinity.
    """

    def __init__(
        self,
        predictor: Predictor,
        images: Sequence[ImageRecord],
        config: EvalConfig,
        *,
        detections: bool = True,
        progress: Progress = silent,
    ) -> None:
        check_comparison(predictor.info, images, config)
        self.info, self.images = predictor.info, tuple(images)
        self.batch = predictor.info.batch or config.batch
        self.config = config
        self._outputs: list[RawOutputs] = []
        rows: list[NDArray[np.float32]] = []
        ids: list[int] = []
        for batch in self.batches():
            raw = raw_outputs(predictor, batch)
            self._outputs.append(raw)
            if detections:
                rows += suppressed(raw[0], batch, self.info, config)
            ids += [record.image_id for record in batch.records]
            progress("fidelity", len(ids), len(images))
        self.image_ids = tuple(ids)
        self.detections = Detections.of_images(ids, rows) if detections else None
        self._labels = None if self.detections is None else _labels(self.images, self.detections, self.info.names)

    def batches(self) -> Iterator[Batch]:
        """Yield the batches of letterboxed images."""
        plans = plan_batches(self.images, self.config.imgsz, self.batch, channels=self.info.channels)
        with closing(read_batches(plans)) as batches:
            yield from batches

    def __iter__(self) -> Iterator[RawOutputs]:
        """Yield the float model's raw outputs batch by batch."""
        return iter(self._outputs)

    def compare(self, predictor: Predictor, *, progress: Progress = silent) -> Fidelity:
        """Run a model on the same images and measure how far it is from the float model.

        Args:
            predictor: The model, in whatever runtime.
            progress: Told of every finished batch.

        Raises:
            ConfigError: The image size does not fit the model.
            ModelError: The model has other outputs than the float model, or they hold NaN or infinity.
        """
        check_fit(predictor.info, self.config)
        parts: list[Measures] = []
        rows: list[NDArray[np.float32]] = []
        done = 0
        for batch, floating in zip(self.batches(), self._outputs, strict=True):
            raw = raw_outputs(predictor, batch)
            if self._labels is not None:
                rows += suppressed(raw[0], batch, predictor.info, self.config)
            parts.append(measure(floating, raw, self.info, end2end=predictor.info.end2end))
            done += len(batch.records)
            progress("fidelity", done, len(self.images))
        measures = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        if self._labels is None:
            return Fidelity(measures, self.image_ids)
        detections = Detections.of_images(self.image_ids, rows)
        if not self._labels.annotations["annotations"]:
            return Fidelity(measures, self.image_ids, detections=detections)
        found = score(self._labels, detections, predictor.info.names)
        return Fidelity(measures, self.image_ids, found.matches, found.metrics.map50_95, detections)


def raw_outputs(predictor: Predictor, batch: Batch) -> RawOutputs:
    """Return the raw outputs of a batch, which a model of a smaller fixed batch takes in several calls."""
    fixed = predictor.info.batch
    parts: list[RawOutputs] = []
    for images in np.split(batch.images, range(fixed, len(batch.images), fixed)) if fixed else [batch.images]:
        outputs = predictor(filled(images, fixed))
        parts.append([np.array(output[: len(images)]) for output in outputs])  # a runtime may reuse its memory
    return [np.concatenate(outputs) if len(parts) > 1 else outputs[0] for outputs in zip(*parts, strict=True)]


def _labels(images: Sequence[ImageRecord], detections: Detections, names: dict[int, str]) -> DetectionDataset:
    """Return a data set whose objects are the float model's detections that it believes in."""
    sure = np.flatnonzero(detections.scores > BELIEVED)
    corners, ids = detections.boxes[sure].astype(np.float64), detections.image_ids[sure]
    boxes = np.concatenate((corners[:, :2], corners[:, 2:] - corners[:, :2]), axis=1)
    annotations = [
        {
            "id": number,
            "image_id": int(image),
            "category_id": int(label),
            "bbox": box.tolist(),
            "area": float(box[2] * box[3]),
            "iscrowd": 0,
        }
        for number, (image, label, box) in enumerate(zip(ids, detections.classes[sure], boxes, strict=True), start=1)
    ]
    content = {
        "images": [{"id": record.image_id, "width": record.width, "height": record.height} for record in images],
        "annotations": annotations,
        "categories": [{"id": index, "name": name} for index, name in names.items()],
    }
    return DetectionDataset(tuple(images), names, content, "the float model's detections", by_index=True)
