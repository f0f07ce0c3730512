"""Who does the pieces of a study: this process, several processes, or the workers of a Ray cluster."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Protocol

from yoloqat.detectors import torch_threads
from yoloqat.errors import CheckFailedError, YoloqatError
from yoloqat.progress import Progress, silent
from yoloqat.sensitivity.job import Job
from yoloqat.sensitivity.scan import STEP, WAIT_SECONDS, work
from yoloqat.sensitivity.scanner import Scanner
from yoloqat.sensitivity.study import Study

_RESTARTS = 3
"""Processes that are started anew, per worker, before it is given up."""


class Crew(Protocol):
    """Does whatever a study has on its list."""

    def do(self) -> None:
        """Return when nothing on the list is left to do."""
        ...


class Alone:
    """This process.

    Args:
        study: What is to be done.
        scanner: Does it.
        progress: Told of what is done.
    """

    def __init__(self, study: Study, scanner: Scanner, progress: Progress = silent) -> None:
        self._study, self._scanner, self._progress = study, scanner, progress

    def do(self) -> None:
        """Return when nothing on the list is left to do.

        Raises:
            DataError: An image does not decode.
            ModelError: An output holds NaN or infinity, or the model cannot be traced.
        """
        work(self._study, self._scanner, progress=self._progress)


class Processes:
    """Local processes that share a study.

    Args:
        job: The scan.
        workers: How many.
        study: The same study, open here to watch it.
        progress: Told of what is done.
    """

    def __init__(self, job: Job, workers: int, study: Study, progress: Progress = silent) -> None:
        self._job, self._study, self._progress = job, study, progress
        self._context = multiprocessing.get_context("spawn")  # a fork would inherit torch's threads
        self._running = [self._started(number) for number in range(workers)]
        self._restarts = _RESTARTS * workers

    def _started(self, number: int) -> tuple[BaseProcess, Connection]:
        device = "cpu" if self._job.device == "cpu" else f"cuda:{number}"
        mine, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(self._job, device, theirs), daemon=True)
        process.start()
        theirs.close()
        return process, mine

    def do(self) -> None:
        """Return when nothing on the list is left to do.

        Raises:
            YoloqatError: A worker met one, or workers end again and again without a word.
        """
        while True:
            done, total = self._study.counts()
            self._progress(STEP, done, total)
            if done == total:
                return
            for number, (process, pipe) in enumerate(self._running):
                error = _received(pipe)
                if error is not None:
                    raise error
                if not process.is_alive():
                    self._restarts -= 1
                    if self._restarts < 0:
                        raise CheckFailedError(
                            f"worker {number} ended with code {process.exitcode}",
                            expected="workers that live",
                            hint="scan without --workers to see why",
                        )
                    self._running[number] = self._started(number)
            time.sleep(WAIT_SECONDS)

    def stop(self) -> None:
        """End the processes."""
        for process, _ in self._running:
            process.terminate()
        for process, pipe in self._running:
            process.join()
            pipe.close()


def _received(pipe: Connection) -> YoloqatError | None:
    """Return the error that a worker told of; None where it told of none, or was killed before it could."""
    try:
        if not pipe.poll():
            return None
        kind, what, expected, hint = pipe.recv()
    except (EOFError, OSError):
        return None
    made: YoloqatError = kind(what, expected=expected, hint=hint)
    return made


@contextmanager
def processes(job: Job, workers: int, study: Study, progress: Progress = silent) -> Iterator[Processes]:
    """Give local processes that work on a study until the context ends."""
    crew = Processes(job, workers, study, progress)
    try:
        yield crew
    finally:
        crew.stop()


def _serve(job: Job, device: str, pipe: Connection) -> None:
    """Work on a study until this process is ended, or whoever started it is gone."""
    parent = os.getppid()
    try:
        scanner = job.scanner(device)  # importing Ultralytics changes the number of threads
        with torch_threads(job.threads):
            study = Study(job.study, job.inputs)
            while os.getppid() == parent:
                work(study, scanner, wanted=lambda: os.getppid() == parent)
                time.sleep(WAIT_SECONDS)
            study.close()
    except YoloqatError as error:
        pipe.send((type(error), error.what, error.expected, error.hint))
    except KeyboardInterrupt:
        return
