"""The noise budget by several workers: each runs a part of a batch's models."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from yoloqat.config import EvalConfig
from yoloqat.datasets import ImageRecord
from yoloqat.detectors import Detector, load_detector
from yoloqat.parallel.pool import Pool
from yoloqat.quant.graph import Graphs
from yoloqat.sensitivity.noise import NoiseScan
from yoloqat.sensitivity.settings import ScanConfig

PIECES = 2
"""Pieces of a batch for each worker: each costs one more forward of the float model, and evens out workers of unequal speed."""

Noises = dict[str, list[float]]


class Piece(NamedTuple):
    """Some models on one batch.

    Attributes:
        batch: Its number.
        names: The models.
        on: The edges that are on in each, as :meth:`yoloqat.sensitivity.noise.NoiseScan.run` takes them.
    """

    batch: int
    names: list[str]
    on: dict[str, list[str]] | None


@dataclass(frozen=True)
class NoiseJob:
    """A noise budget as plain values, which travel between processes.

    Attributes:
        checkpoint: A calibrated ``.safetensors`` checkpoint.
        images: What it is measured on.
        config: Image size and batch.
        scan: The granularity and the bits.
        memory: Bytes of values that a replay keeps between items.
    """

    checkpoint: Path
    images: tuple[ImageRecord, ...]
    config: EvalConfig
    scan: ScanConfig
    memory: int

    def begin(self, device: str) -> Callable[[Piece], Noises]:
        """Load the detector and return what runs a piece."""
        scan = self.scanned(load_detector(self.checkpoint), torch.device(device))
        return lambda piece: scan.run(piece.batch, piece.on, names=piece.names)

    def scanned(
        self, detector: Detector, device: torch.device, pool: Pool | None = None, graphs: Graphs | None = None
    ) -> NoiseScan:
        """Return what measures the budget.

        Args:
            detector: That of the checkpoint.
            device: Where torch runs.
            pool: Workers that share each batch; None runs it in this process.
            graphs: Graphs of the detector's module that are traced already; None begins with none.

        Raises:
            YoloqatError: As :class:`~yoloqat.sensitivity.noise.NoiseScan`.
        """
        kind = NoiseScan if pool is None else partial(_PooledScan, job=self, pool=pool)
        return kind(
            detector,
            self.images,
            config=self.config,
            scan=self.scan,
            device=device,
            memory=self.memory,
            graphs=graphs,
        )


class _PooledScan(NoiseScan):
    """Lets the workers of a pool run the models of each batch; the numbers are those of one process."""

    def __init__(
        self, detector: Detector, images: Sequence[ImageRecord], *, job: NoiseJob, pool: Pool, **settings: Any
    ) -> None:
        super().__init__(detector, images, **settings)
        self._job, self._pool = job, pool

    def run(
        self,
        batch: int,
        on: Mapping[str, Collection[str]] | None = None,
        *,
        names: Sequence[str] | None = None,
        progress: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> Noises:
        wanted = list(names or (self.names if on is None else on))
        count = min(len(wanted), PIECES * self._pool.workers)
        # every so many-th name, since those at the front of the network take longer
        parts = [wanted[start::count] for start in range(count)]
        pieces = [Piece(batch, part, None if on is None else {name: list(on[name]) for name in part}) for part in parts]
        found: Noises = {}
        for _, part in self._pool.mapped(self._job, pieces):
            found |= part
            progress(len(found), len(wanted))
        return found
