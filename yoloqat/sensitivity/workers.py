"""The work of a scan: done in this process, or by the workers of a pool."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from yoloqat.config import EvalConfig
from yoloqat.datasets import DetectionDataset
from yoloqat.detectors import load_detector
from yoloqat.errors import YoloqatError
from yoloqat.parallel.pool import Pool
from yoloqat.progress import Progress, silent
from yoloqat.sensitivity.scanner import MEMORY, Scanner
from yoloqat.sensitivity.settings import ScanConfig
from yoloqat.sensitivity.study import LEASE_SECONDS, Study, WorkResult

WAIT_SECONDS = 0.2
"""Pause before looking again where others hold all that is left."""

MOST_PIECES = 8
"""Pieces of one task: what is lost when the process that holds the study is killed, or begun anew when a worker is."""

STEP = "sensitivity"


@dataclass(frozen=True)
class Job:
    """A scan as plain values, which travel between processes.

    Attributes:
        checkpoint: A calibrated ``.safetensors`` checkpoint.
        dataset: Images and labels.
        config: How to score.
        scan: What to switch, and what to measure.
        study: File of the study.
        inputs: All that the results depend on.
        device: Where torch runs, as :class:`torch.device` reads it.
        memory: Bytes of values that a replay keeps between items.
        only: Names of the items that are scanned; None scans all.
    """

    checkpoint: Path
    dataset: DetectionDataset
    config: EvalConfig
    scan: ScanConfig
    study: Path
    inputs: dict[str, Any]
    device: str
    memory: int = MEMORY
    only: tuple[str, ...] | None = None

    def scanner(self, device: str | None = None) -> Scanner:
        """Load the detector and return what scans it.

        Args:
            device: Another device than the job's own.

        Raises:
            YoloqatError: As :func:`load_detector` and :class:`Scanner`.
        """
        return Scanner(
            load_detector(self.checkpoint),
            self.dataset,
            config=self.config,
            scan=self.scan,
            device=torch.device(device or self.device),
            memory=self.memory,
            only=self.only,
        )

    def begin(self, device: str) -> Callable[[tuple[int, list[str]]], list[tuple[str, WorkResult]]]:
        """Return what scans some items on a batch, as a worker of a pool begins."""
        scanner = self.scanner(device)
        return lambda piece: list(scanner.run(*piece))


Workers = Callable[[], None]
"""Do whatever a study has on its list, and return when nothing is left to do; an error of any worker is raised."""


def work_of(job: Job, pool: Pool, study: Study, progress: Progress = silent) -> Workers:
    """Return what lets the workers of a pool do it; this process alone writes into the study.

    Args:
        job: The scan.
        pool: The workers.
        study: What is to be done.
        progress: Told of what is done.
    """

    def hand_out() -> None:
        with heartbeat(study):
            while True:
                claimed = iter(lambda: study.claim(workers=pool.workers, most=MOST_PIECES), None)
                done, total = study.counts()
                progress(STEP, done, total)
                if done == total:
                    return
                for (batch, _), found in pool.mapped(job, claimed):
                    for name, result in found:
                        study.finish(name, batch, result)
                    done, total = study.counts()
                    progress(STEP, min(done, total - 1), total)
                time.sleep(WAIT_SECONDS)  # what is left is held by others

    return hand_out


@contextmanager
def heartbeat(study: Study, *, every: float = LEASE_SECONDS / 6) -> Iterator[None]:
    """Renew the study's claims from a thread until the context ends, and then give up what is left of them."""
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(every):
            with suppress(YoloqatError):  # whoever works on the study meets it too, and reports it
                study.renew()

    thread = threading.Thread(target=beat, name="yoloqat-heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        study.release()


def _always() -> bool:
    return True


def work(study: Study, scanner: Scanner, *, progress: Progress = silent, wanted: Callable[[], bool] = _always) -> None:
    """Do pieces of the study until none is left, those that others hold included.

    Args:
        study: What is to be done.
        scanner: Does it.
        progress: Notified of every finished piece, of whichever process.
        wanted: Asked after every piece; False ends the work.

    Raises:
        DataError: The study lists pieces that this scan does not have, or an image does not decode.
        ModelError: An output holds NaN or infinity, or the model cannot be traced.
    """
    with heartbeat(study):
        while wanted():
            claimed = study.claim()
            done, total = study.counts()
            progress(STEP, done, total)
            if claimed is None:
                if done == total:
                    return
                time.sleep(WAIT_SECONDS)
                continue
            batch, names = claimed
            if not 0 <= batch < len(scanner.batches) or not set(names) <= set(scanner.names):
                raise study.damaged(ValueError(f"pieces of batch {batch} for {', '.join(names)}"))
            for name, result in scanner.run(batch, names):
                study.finish(name, batch, result)
                done += 1
                progress(STEP, min(done, total - 1), total)
                if not wanted():
                    return
