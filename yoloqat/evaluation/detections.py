"""Detections of many images in a few arrays, to keep, to save and to score."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yoloqat.errors import DataError
from yoloqat.provenance import atomic_path


@dataclass(frozen=True, eq=False)
class Detections:
    """Detections of a sequence of images.

    Attributes:
        images: Ids of all images that were run, also of those without a detection, shape (images,), int64.
        counts: Detections of each image, shape (images,), int64; the other arrays follow in this order.
        boxes: Corners x1, y1, x2, y2 in pixels of the image files, shape (detections, 4), float32.
        scores: Confidences, shape (detections,), float32.
        classes: The model's class indices, shape (detections,), int64.
    """

    images: NDArray[np.int64]
    counts: NDArray[np.int64]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    classes: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of detections."""
        return len(self.scores)

    @property
    def image_ids(self) -> NDArray[np.int64]:
        """The image id of every detection, shape (detections,), int64."""
        return np.repeat(self.images, self.counts)

    def by_image(self) -> list[NDArray[np.float32]]:
        """Return the array that :meth:`of_images` takes of each image: (detections, 6) of x1, y1, x2, y2, score, class."""
        rows = np.concatenate((self.boxes, self.scores[:, None], self.classes[:, None].astype(np.float32)), axis=1)
        return np.split(rows, np.cumsum(self.counts)[:-1]) if len(self.counts) else []

    @classmethod
    def of_images(cls, image_ids: Sequence[int], rows: Sequence[NDArray[np.float32]]) -> Detections:
        """Make them from one array (detections, 6) of x1, y1, x2, y2, score, class per image."""
        stacked = np.concatenate([*rows, np.zeros((0, 6), dtype=np.float32)])
        return cls(
            images=np.asarray(image_ids, dtype=np.int64),
            counts=np.asarray([len(row) for row in rows], dtype=np.int64),
            boxes=np.ascontiguousarray(stacked[:, :4]),
            scores=np.ascontiguousarray(stacked[:, 4]),
            classes=stacked[:, 5].astype(np.int64),
        )

    @classmethod
    def joined(cls, parts: Sequence[Detections]) -> Detections:
        """Join the detections of several runs of images."""
        whole = [cls.of_images([], []), *parts]
        return cls(
            **{field.name: np.concatenate([getattr(part, field.name) for part in whole]) for field in fields(cls)}
        )

    def to_bytes(self) -> bytes:
        """Return them as the bytes of a compressed ``.npz`` file."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **{field.name: getattr(self, field.name) for field in fields(self)})
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes, name: str) -> Detections:
        """Read what :meth:`to_bytes` returned.

        Args:
            content: The bytes.
            name: Where they are from, for messages.

        Raises:
            DataError: They are no detections.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                return cls(**{field.name: arrays[field.name] for field in fields(cls)})
        except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise DataError(
                f"detections file '{name}' cannot be read ({type(error).__name__})",
                expected="an .npz file of detections",
                hint="remove it, so that it is made again",
            ) from error

    def save(self, path: Path) -> None:
        """Write them to a compressed ``.npz`` file, whole or not at all.

        Raises:
            OutputError: The file cannot be written.
        """
        with atomic_path(path) as temporary:
            temporary.write_bytes(self.to_bytes())

    @classmethod
    def load(cls, path: Path) -> Detections:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: The file is missing or is no detections file.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(
                f"detections file '{path}' cannot be read ({type(error).__name__})",
                expected="an .npz file of detections",
                hint="remove it, so that it is made again",
            ) from error
        return cls.from_bytes(content, str(path))

    def to_coco(self, categories: dict[int, int]) -> list[dict[str, Any]]:
        """Return them as COCO results, unrounded.

        Args:
            categories: Class index to category id.

        Returns:
            Per detection ``image_id``, ``category_id``, ``bbox`` (x, y, width, height in pixels) and ``score``.
        """
        corners = self.boxes.astype(np.float64)
        boxes = np.concatenate((corners[:, :2], corners[:, 2:] - corners[:, :2]), axis=1).tolist()
        columns = zip(self.image_ids.tolist(), self.classes.tolist(), boxes, self.scores.tolist(), strict=True)
        return [
            {"image_id": image, "category_id": categories[label], "bbox": box, "score": confidence}
            for image, label, box, confidence in columns
        ]
