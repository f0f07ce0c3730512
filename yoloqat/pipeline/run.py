"""What every pipeline shares: where results go, on what device, who watches, and how finished parts are found again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from yoloqat.config import EvalConfig, to_dict
from yoloqat.config.checks import check_int
from yoloqat.datasets import DetectionDataset, ImageRecord
from yoloqat.evaluation import DetectionStore, Evaluation, evaluate
from yoloqat.evaluation.reference import Fidelity, Reference
from yoloqat.parallel.pool import Pool, opened_pool
from yoloqat.pipeline.loggers import NO_LOGGER, Logger
from yoloqat.pipeline.shards import ModelFile, SharedReference, detect_shards
from yoloqat.predictor import Predictor
from yoloqat.progress import Progress, silent
from yoloqat.provenance import digest, environment, file_sha256

_PARTS = ".parts"

IMAGES = "images_digest"
"""Key of a checkpoint's calibration: the digest of its images by their bytes."""


@dataclass(frozen=True)
class Run:
    """One run of a pipeline.

    Attributes:
        out: Directory of the results; finished parts of long work lie in a hidden directory inside.
        device: Where torch runs.
        threads: Threads inside one operator.
        progress: Who watches.
        logger: What notes the run as it goes.
        pool: Workers that share the work; None does everything in this process.
    """

    out: Path
    device: torch.device
    threads: int
    progress: Progress = silent
    logger: Logger = NO_LOGGER
    pool: Pool | None = None

    @contextmanager
    def pooled(self, workers: int = 1, ray: str | None = None) -> Iterator[Run]:
        """Give the same run with workers until the context ends; with those that it has already, where it has some.

        Args:
            workers: Local processes, or workers of the Ray cluster; one local process is this one.
            ray: Address of a Ray cluster, ``"local"`` for a new one on this machine, None for none.

        Raises:
            ConfigError: There are too few cores or devices for them, or there is no cluster at that address.
            DependencyError: Ray is not installed.
        """
        check_int("workers", workers, 1)
        if self.pool is not None or (workers == 1 and ray is None):
            yield self
            return
        device = str(self.device)
        with opened_pool(workers, ray, device=device, threads=self.threads, progress=self.progress) as pool:
            yield replace(self, pool=pool)

    def labelled(self, label: str) -> Progress:
        """Return a progress that names its steps after ``label``."""

        def progress(step: str, done: int, total: int) -> None:
            self.progress(f"{label}: {step}", done, total)

        return progress

    def named(self, label: str) -> Run:
        """Return the same run whose steps are all named after ``label``, for work that is done twice."""
        return replace(self, progress=self.labelled(label))

    def part_path(self, key: str, name: str) -> Path:
        """Return the file of a finished part."""
        return self.out / _PARTS / key / name

    def key(self, **parts: Any) -> str:
        """Return the digest under which a part is found again: its own inputs, and all that may change a result.

        Args:
            parts: JSON-able values that the part depends on.
        """
        known = environment(device=str(self.device), threads=self.threads)
        return digest(
            parts
            | {"environment": {name: known[name] for name in ("yoloqat", "device", "threads", "packages", "processor")}}
        )

    def evaluate(
        self,
        predictor: Predictor,
        dataset: DetectionDataset,
        config: EvalConfig,
        *,
        label: str,
        model_key: Any,
        file: ModelFile | None = None,
    ) -> Evaluation:
        """Score a predictor, going on where an interrupted run of the same inputs stopped.

        Args:
            predictor: The model.
            dataset: Images and labels.
            config: How to score.
            label: Names the model on the progress bar.
            model_key: JSON-able value that identifies the model's numbers.
            file: The same model as the workers open it; None runs it in this process.
        """
        key = self.key(model=model_key, data=dataset_key(dataset), config=to_dict(config))
        store = DetectionStore(self.out / _PARTS, key)
        shared = None if self.pool is None or file is None else detect_shards(self.pool, file, config)
        return evaluate(predictor, dataset, config, progress=self.labelled(label), store=store, shared=shared)

    def reference(
        self,
        predictor: Predictor,
        images: Sequence[ImageRecord],
        config: EvalConfig,
        *,
        file: ModelFile | None = None,
    ) -> Reference | SharedReference:
        """Return a float model on some images, that other models are compared with.

        Args:
            predictor: The float model.
            images: What all models run on; labels are not needed.
            config: Image size, batch and NMS settings.
            file: The same model as the workers open it; they measure the others too.

        Raises:
            ConfigError: The image size does not fit the model.
            DataError: There is no image, or one does not decode.
            ModelError: The outputs have an unfit shape, or hold NaN or infinity.
        """
        if self.pool is not None and file is not None:
            return SharedReference(self.pool, file, predictor, images, config)
        return Reference(predictor, images, config, detections=False, progress=self.labelled("float"))

    def fidelity(
        self,
        reference: Reference | SharedReference,
        predictor: Predictor,
        *,
        label: str,
        model_key: Any,
        file: ModelFile | None = None,
    ) -> Fidelity:
        """Measure how far a predictor is from the float model, or read what an interrupted run of the same inputs found.

        Args:
            reference: The float model's outputs.
            predictor: The model.
            label: Names the model on the progress bar.
            model_key: JSON-able value that identifies the model's numbers and those of the float model.
            file: The same model as the workers open it; needed where they have the reference.
        """
        images, config = records_key(reference.images), to_dict(reference.config)
        path = self.part_path(self.key(model=model_key, images=images, config=config), "fidelity.npz")
        found = Fidelity.load(path, reference.image_ids)
        if found is None:
            if isinstance(reference, Reference):
                found = reference.compare(predictor, progress=self.labelled(label))
            elif file is None:
                raise TypeError(f"{label} has no file that the workers can open")
            else:
                found = reference.compare(file, progress=self.labelled(label))
            if found.matches is None:
                found.save(path)
        return found

    def forget_parts(self) -> None:
        """Remove the finished parts: the result holds them now."""
        shutil.rmtree(self.out / _PARTS, ignore_errors=True)


def records_key(records: Sequence[ImageRecord]) -> str:
    """Return a digest of image files by path, size and time of change."""
    return digest([[str(record.path), *_stamp(record.path)] for record in records])


def images_digest(records: Sequence[ImageRecord]) -> str:
    """Return a digest of images by their bytes, whatever they are called and wherever they lie.

    Raises:
        DataError: An image cannot be read.
    """
    return digest(sorted(file_sha256(record.path) for record in records))


def dataset_key(dataset: DetectionDataset) -> str:
    """Return a digest of a data set's image files, classes and annotations."""
    names = {str(index): name for index, name in dataset.names.items()}
    return digest([records_key(dataset.images), names, dataset.annotations])


def dataset_hash(dataset: DetectionDataset) -> str:
    """Return a digest of a data set's images by their bytes, classes and annotations: it outlives a copy or a move.

    For what is kept for days; :func:`dataset_key` reads no image.

    Raises:
        DataError: An image cannot be read.
    """
    names = {str(index): name for index, name in dataset.names.items()}
    images = [[record.image_id, file_sha256(record.path)] for record in dataset.images]
    return digest([images, names, dataset.annotations])


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
