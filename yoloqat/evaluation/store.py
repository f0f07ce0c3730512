"""Detections of finished chunks of images on the disk, so that an interrupted evaluation goes on where it stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from yoloqat.config.checks import check_int
from yoloqat.errors import DataError
from yoloqat.evaluation.detections import Detections


@dataclass(frozen=True)
class DetectionStore:
    """Keeps the detections of each finished chunk of batches as one file.

    Attributes:
        directory: Where the chunks lie, in a directory of their own per key.
        key: A digest of everything the detections depend on: model, data set, settings, engine, threads.
        batches: Batches per chunk. Whole batches, because the outputs of an image may depend on its batch.

    Raises:
        ConfigError: ``batches`` is not a positive whole number.
    """

    directory: Path
    key: str
    batches: int = 4

    def __post_init__(self) -> None:
        """Check the values."""
        check_int("batches", self.batches, 1)

    def path(self, chunk: int) -> Path:
        """Return the file of a chunk."""
        return self.directory / self.key / f"{chunk:06d}.npz"

    def load(self, chunk: int, image_ids: Sequence[int]) -> Detections | None:
        """Return a finished chunk, or None where it is missing, unreadable or of other images than ``image_ids``."""
        path = self.path(chunk)
        if not path.is_file():
            return None
        try:
            detections = Detections.load(path)
        except DataError:
            return None
        return detections if detections.images.tolist() == list(image_ids) else None

    def save(self, chunk: int, detections: Detections) -> None:
        """Keep a finished chunk.

        Raises:
            OutputError: It cannot be written.
        """
        detections.save(self.path(chunk))
