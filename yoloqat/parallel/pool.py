"""One way to spread work over workers, be they processes of this machine or of a Ray cluster.

A job is a picklable value that says how to begin: each worker begins it once, by loading a model for instance, and then does
pieces of it. The process that hands them out gets the results, and it alone writes files.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol

from yoloqat.errors import ConfigError
from yoloqat.parallel.local_pool import LocalPool, local_pool
from yoloqat.parallel.ray_pool import RayPool, ray_pool
from yoloqat.progress import Progress, silent

WAIT_SECONDS = 0.2
"""How long results are waited for at once."""


UNKNOWN = "unknown job"
"""What a worker answers that has not begun the job: it is sent again, with the job."""


class Job(Protocol):
    """Work that comes in pieces; pickled to get to the workers."""

    def begin(self, device: str) -> Callable[[Any], Any]:
        """Return what does a piece.

        Args:
            device: Where torch runs, as :class:`torch.device` reads it.
        """
        ...


@dataclass
class Doer:
    """What a worker calls: it begins a job when the first piece of it comes, and keeps it until another job's piece comes.

    Attributes:
        device: Where torch runs; ``"cuda"`` where the worker has a device of its own, and falls back to the CPU.
        threads: Threads inside an operator: the same as of one process, since they decide the last bits.
    """

    device: str
    threads: int

    def __post_init__(self) -> None:
        """Begin nothing yet."""
        self._key, self._begun = "", _unknown

    def __call__(self, number: int, key: str, pickled: bytes | None, piece: Any) -> Any:
        """Do a piece of a job.

        Args:
            number: For whoever asks.
            key: Of the job.
            pickled: The job; None gives :data:`UNKNOWN` where it is not the one that was begun last.
            piece: What to do.
        """
        import torch

        del number
        torch.set_num_threads(self.threads)
        if key != self._key:
            if pickled is None:
                return UNKNOWN
            self._key, self._begun = "", _unknown  # lets the former go before the next is loaded
            device = self.device if self.device != "cuda" or torch.cuda.is_available() else "cpu"
            self._begun = pickle.loads(pickled).begin(device)  # noqa: S301 - from the process that started this one
            self._key = key
            torch.set_num_threads(self.threads)  # importing Ultralytics changes it
        return self._begun(piece)


def _unknown(_piece: Any) -> Any:
    return UNKNOWN


class Pool:
    """Workers that do pieces of any job.

    Attributes:
        workers: How many.
    """

    def __init__(self, pool: LocalPool | RayPool, workers: int) -> None:
        self.workers = workers
        self._pool = pool
        self._numbers = count()

    def mapped(self, job: Job, pieces: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        """Yield each piece with its result, in the order in which they are done.

        Args:
            job: What the workers begin once.
            pieces: Picklable; taken one by one as workers become idle.

        Raises:
            YoloqatError: A worker met it.
            CheckFailedError: Workers end again and again.
        """
        pickled, waiting = pickle.dumps(job), iter(pieces)
        key = hashlib.sha256(pickled).hexdigest()
        running: dict[int, Any] = {}
        left = True
        while left or running:
            while left and self._pool.idle:
                try:
                    piece = next(waiting)
                except StopIteration:
                    left = False
                    break
                number = next(self._numbers)
                running[number] = piece
                self._pool.submit(number, key, None, piece)
            for (number, *_), result in self._pool.results(WAIT_SECONDS):
                if number not in running:  # of a call that was broken off
                    continue
                if isinstance(result, str) and result == UNKNOWN:
                    self._pool.submit(number, key, pickled, running[number])
                else:
                    yield running.pop(number), result


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


@contextmanager
def opened_pool(
    workers: int, ray: str | None, *, device: str, threads: int, progress: Progress = silent
) -> Iterator[Pool]:
    """Give workers until the context ends.

    Args:
        workers: Local processes, or workers of the Ray cluster.
        ray: Address of a Ray cluster, ``"local"`` for a new one on this machine, None for local processes. Paths must be readable
            on all its machines.
        device: ``"cpu"``, or a CUDA device: then each worker gets one of its own.
        threads: Threads inside an operator, of each worker.
        progress: Told of local workers that were lost.

    Raises:
        ConfigError: There are too few cores or devices, or there is no cluster at that address.
        DependencyError: Ray is not installed.
    """
    cuda = device != "cpu"
    if ray is not None:
        doer = Doer("cuda" if cuda else "cpu", threads)
        with ray_pool(doer, ray, workers, cores=threads, gpus=int(cuda)) as pool:
            yield Pool(pool, workers)
        return
    import torch

    check_workers(workers, device=device, threads=threads, cores=os.cpu_count() or 1, devices=torch.cuda.device_count())
    doers = [Doer(f"cuda:{number}" if cuda else "cpu", threads) for number in range(workers)]
    with local_pool(doers, hint="run without `workers` to see why", progress=progress) as local:
        yield Pool(local, workers)
