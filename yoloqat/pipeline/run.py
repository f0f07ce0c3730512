"""What every pipeline shares: where results go, on what device, who watches, and how finished parts are found again."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from yoloqat.config import EvalConfig, to_dict
from yoloqat.datasets import DetectionDataset, ImageRecord
from yoloqat.evaluation import DetectionStore, Evaluation, evaluate
from yoloqat.evaluation.reference import Fidelity, Reference
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
    """

    out: Path
    device: torch.device
    threads: int
    progress: Progress = silent

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
        self, predictor: Predictor, dataset: DetectionDataset, config: EvalConfig, *, label: str, model_key: Any
    ) -> Evaluation:
        """Score a predictor, going on where an interrupted run of the same inputs stopped.

        Args:
            predictor: The model.
            dataset: Images and labels.
            config: How to score.
            label: Names the model on the progress bar.
            model_key: JSON-able value that identifies the model's numbers.
        """
        key = self.key(model=model_key, data=dataset_key(dataset), config=to_dict(config))
        store = DetectionStore(self.out / _PARTS, key)
        return evaluate(predictor, dataset, config, progress=self.labelled(label), store=store)

    def fidelity(self, reference: Reference, predictor: Predictor, *, label: str, model_key: Any) -> Fidelity:
        """Measure how far a predictor is from the float model, or read what an interrupted run of the same inputs found.

        Args:
            reference: The float model's outputs.
            predictor: The model.
            label: Names the model on the progress bar.
            model_key: JSON-able value that identifies the model's numbers and those of the float model.
        """
        images, config = records_key(reference.images), to_dict(reference.config)
        path = self.part_path(self.key(model=model_key, images=images, config=config), "fidelity.npz")
        found = Fidelity.load(path, reference.image_ids)
        if found is None:
            found = reference.compare(predictor, progress=self.labelled(label))
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
