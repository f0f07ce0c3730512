"""Models that the workers of a pool run on shards of the images: whole batches, so that every number is that of one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from yoloqat.config import EvalConfig
from yoloqat.datasets import BatchPlan, ImageRecord
from yoloqat.detectors import TorchPredictor, load_detector
from yoloqat.detectors.leave_float import leave_float
from yoloqat.engines import open_engine
from yoloqat.evaluation.detections import Detections
from yoloqat.evaluation.fidelity import Measures
from yoloqat.evaluation.reference import Fidelity, Reference, check_comparison
from yoloqat.evaluation.scoring import run_batches
from yoloqat.parallel.pool import Pool
from yoloqat.predictor import Predictor
from yoloqat.progress import Progress, silent
from yoloqat.quant import quantizers

TORCH_SUFFIXES = (".pt", ".safetensors")


@dataclass(frozen=True)
class ModelFile:
    """A model as a worker opens it.

    Attributes:
        path: The file, or the directory of an OpenVINO model; readable under this path wherever the workers are.
        threads: Of the engine.
        float_layers: Layers of a checkpoint that are left float.
        floating: Whether the quantizers of a checkpoint are off.
    """

    path: Path
    threads: int
    float_layers: tuple[str, ...] = ()
    floating: bool = False

    def opened(self, device: str) -> Predictor:
        """Return what runs the model.

        Args:
            device: Where torch runs, and an engine that can.

        Raises:
            ModelError: It cannot be loaded.
            EngineError: Its engine cannot run it.
        """
        if self.path.suffix not in TORCH_SUFFIXES:
            return open_engine(self.path, threads=self.threads, device=device)
        detector = load_detector(self.path)
        if self.float_layers:
            detector = leave_float(detector, self.float_layers)
        if self.floating:
            for _, quantizer in quantizers(detector.module):
                quantizer.disable()
        return TorchPredictor(detector, device=torch.device(device))


class DetectPiece(NamedTuple):
    """Some batches to detect on."""

    place: int
    model: ModelFile
    plans: list[BatchPlan]
    config: EvalConfig


class ComparePiece(NamedTuple):
    """A batch to compare a model with its float model on."""

    place: int
    model: ModelFile
    floating: ModelFile
    images: tuple[ImageRecord, ...]
    config: EvalConfig


@dataclass(frozen=True)
class ModelsJob:
    """Runs whatever models on whatever images."""

    def begin(self, device: str) -> Callable[[DetectPiece | ComparePiece], Detections | Measures]:
        """Return what does a piece."""
        return _Models(device)


class _Models:
    """Keeps the two models that were used last open, and the float model's outputs on the images that were seen."""

    def __init__(self, device: str) -> None:
        self._opened = lru_cache(maxsize=2)(lambda model: model.opened(device))
        self._made_by: tuple[ModelFile, EvalConfig] | None = None
        self._references: dict[tuple[ImageRecord, ...], Reference] = {}

    def __call__(self, piece: DetectPiece | ComparePiece) -> Detections | Measures:
        if isinstance(piece, DetectPiece):
            return run_batches(self._opened(piece.model), piece.plans, piece.config)
        if self._made_by != (piece.floating, piece.config):
            self._made_by = piece.floating, piece.config
            self._references.clear()
        if piece.images not in self._references:
            floating = self._opened(piece.floating)
            self._references[piece.images] = Reference(floating, piece.images, piece.config, detections=False)
        return self._references[piece.images].compare(self._opened(piece.model)).measures


def detect_shards(
    pool: Pool, model: ModelFile, config: EvalConfig
) -> Callable[[Sequence[tuple[int, list[BatchPlan]]]], Iterator[tuple[int, Detections]]]:
    """Return what detects on chunks of batches by the workers of a pool; it yields each chunk when it is done."""

    def detected(chunks: Sequence[tuple[int, list[BatchPlan]]]) -> Iterator[tuple[int, Detections]]:
        for piece, found in pool.mapped(ModelsJob(), (DetectPiece(index, model, own, config) for index, own in chunks)):
            yield piece.place, found

    return detected


class SharedReference:
    """A :class:`~yoloqat.evaluation.reference.Reference` whose float outputs lie with the workers, batch by batch.

    Args:
        pool: The workers.
        floating: The float model.
        predictor: The same, open here.
        images: What both models run on.
        config: Image size, batch and NMS settings; always the letterbox.

    Raises:
        ConfigError: The image size does not fit the model.
        DataError: There is no image.
    """

    def __init__(
        self, pool: Pool, floating: ModelFile, predictor: Predictor, images: Sequence[ImageRecord], config: EvalConfig
    ) -> None:
        check_comparison(predictor.info, images, config)
        self.images, self.config = tuple(images), config
        self.image_ids = tuple(record.image_id for record in images)
        self._pool, self._floating = pool, floating
        self._batch = predictor.info.batch or config.batch

    def compare(self, model: ModelFile, *, progress: Progress = silent) -> Fidelity:
        """Let the workers run a model on the same images and measure how far it is from the float model.

        Args:
            model: The model.
            progress: Told of every finished batch.

        Raises:
            YoloqatError: As :meth:`yoloqat.evaluation.reference.Reference.compare`.
        """
        starts = range(0, len(self.images), self._batch)
        batches = [self.images[start : start + self._batch] for start in starts]
        pieces = [
            ComparePiece(index, model, self._floating, images, self.config) for index, images in enumerate(batches)
        ]
        found: dict[int, Measures] = {}
        done = 0
        for piece, measures in self._pool.mapped(ModelsJob(), pieces):
            found[piece.place] = measures
            done += len(piece.images)
            progress("fidelity", done, len(self.images))
        parts = [found[index] for index in range(len(pieces))]
        return Fidelity({name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, self.image_ids)
