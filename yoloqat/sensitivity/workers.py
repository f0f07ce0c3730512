"""The workers of a scan: this process, several processes of this machine, or the workers of a Ray cluster."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from yoloqat.config import EvalConfig
from yoloqat.datasets import DetectionDataset
from yoloqat.detectors import load_detector, torch_threads
from yoloqat.errors import ConfigError, YoloqatError
from yoloqat.parallel.processes import Parent, ProcessPool
from yoloqat.parallel.ray_pool import ray_pool
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
        threads: Threads inside an operator.
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
    threads: int
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


def check_workers(workers: int, *, device: str, threads: int, cores: int, devices: int) -> None:
    """Check that as many processes can work at once without changing a number or slowing each other down.

    Args:
        workers: Processes.
        device: Where torch runs.
        threads: Threads inside an operator, of each process: the same as of one process, since they decide the last bits.
        cores: Of this machine.
        devices: CUDA devices of this machine.

    Raises:
        ConfigError: They cannot.
    """
    if device == "cpu" and workers * threads > cores:
        raise ConfigError(
            f"{workers} workers of {threads} threads each want {workers * threads} cores",
            expected=f"at most the {cores} cores of this machine",
            hint="set `workers` or `threads` lower; each worker uses the threads that one process would",
        )
    if device != "cpu" and workers > devices:
        raise ConfigError(
            f"{workers} workers want a CUDA device each",
            expected=f"at most the {devices} devices of this machine",
            hint="set `workers` lower",
        )


Workers = Callable[[], None]
"""Do whatever a study has on its list, and return when nothing is left to do; an error of any worker is raised."""


@contextmanager
def processes(job: Job, workers: int, study: Study, progress: Progress = silent) -> Iterator[Workers]:
    """Give local processes that share a study, which is open here to watch it, until the context ends."""
    with ProcessPool(hint="scan without `workers` to see why") as pool:
        for number in range(workers):
            pool.start(partial(_serve, job, "cpu" if job.device == "cpu" else f"cuda:{number}"))

        def watch() -> None:
            while True:
                done, total = study.counts()
                progress(STEP, done, total)
                if done == total:
                    return
                pool.check()
                time.sleep(WAIT_SECONDS)

        yield watch


def _serve(job: Job, device: str, parent: Parent) -> None:
    """Work on a study until this process is ended, or whoever started it is gone."""
    scanner = job.scanner(device)  # importing Ultralytics changes the number of threads
    with torch_threads(job.threads):
        study = Study(job.study, job.inputs)
        while parent.alive():
            work(study, scanner, wanted=parent.alive)
            time.sleep(WAIT_SECONDS)
        study.close()


class _RemoteScan:
    """Scans in a worker of a cluster, with a scanner that is made there."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._scanner: Scanner | None = None

    def __call__(self, batch: int, names: list[str]) -> list[tuple[str, WorkResult]]:
        if self._scanner is None:
            device = "cuda" if self._job.device.startswith("cuda") and torch.cuda.is_available() else "cpu"
            self._scanner = self._job.scanner(device)
        with torch_threads(self._job.threads):
            return list(self._scanner.run(batch, names))


@contextmanager
def ray_workers(job: Job, address: str, workers: int, study: Study, progress: Progress = silent) -> Iterator[Workers]:
    """Give the workers of a cluster until the context ends; this process alone writes into the study.

    Args:
        job: The scan; its paths must be readable on every machine of the cluster.
        address: As :func:`yoloqat.parallel.ray_pool.ray_pool` takes it.
        workers: How many; each takes as many cores as the scan has threads.
        study: What is to be done.
        progress: Notified of what is done.

    Raises:
        DependencyError: Ray is not installed.
        ConfigError: There is no cluster at that address, or it has too few cores.
    """
    gpus = 1 if job.device.startswith("cuda") else 0
    with ray_pool(_RemoteScan(job), address, workers, cores=job.threads, gpus=gpus) as pool:

        def hand_out() -> None:
            with heartbeat(study):
                while True:
                    while pool.idle:
                        claimed = study.claim(workers=workers, most=MOST_PIECES)
                        if claimed is None:
                            break
                        pool.submit(*claimed)
                    done, total = study.counts()
                    progress(STEP, done, total)
                    if done == total:
                        return
                    for (batch, _), found in pool.results(WAIT_SECONDS):
                        for name, result in found:
                            study.finish(name, batch, result)

        yield hand_out


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
