"""A pool of worker processes on this machine, each of which runs one task."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, NoReturn

from yoloqat.errors import CheckFailedError, YoloqatError
from yoloqat.progress import Progress, silent

GRACE_SECONDS = 3.0
"""How long the other workers are heard after one has failed: the first to report may only have lost its partner."""

STOP_SECONDS = 15.0
"""How long a worker has to end by itself before it is killed."""

RESTARTS = 3
"""How often each worker that ended without a report may be started anew."""


class Parent:
    """The process that started a worker, as the worker's task sees it."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._number = pipe, os.getppid()

    def alive(self) -> bool:
        """Return whether the parent still runs."""
        return os.getppid() == self._number

    def progress(self, step: str, done: int, total: int, *, send: bool = True) -> None:
        """Report a finished step; without ``send`` only see whether the parent is there.

        Raises:
            KeyboardInterrupt: The parent is gone.
        """
        if not self.alive():
            raise KeyboardInterrupt
        if send:
            self._pipe.send((step, done, total))

    def receive(self, seconds: float) -> Any:
        """Return what the parent sent, after waiting for it at most so long; None where nothing came.

        Raises:
            KeyboardInterrupt: The parent is gone.
        """
        try:
            return self._pipe.recv() if self._pipe.poll(seconds) else None
        except (EOFError, ConnectionError):
            raise KeyboardInterrupt from None

    def answer(self, value: Any) -> None:
        """Send the parent a result."""
        self._pipe.send(Answer(value))


Task = Callable[[Parent], None]
"""The work of one worker; it is pickled to get there."""


@dataclass(frozen=True)
class Report:
    """The last message of a worker.

    Attributes:
        at: Seconds of the machine's clock.
        error: The error of the task, or None.
        defect: The traceback of an exception that is no :class:`YoloqatError`, or None.
    """

    at: float
    error: YoloqatError | None = None
    defect: str | None = None


@dataclass(frozen=True)
class Answer:
    """A message of a worker that holds a result."""

    value: Any


@dataclass
class Worker:
    """A process, its task and its end of the pipe; the report and results that came, and whether it ended without a report."""

    task: Task
    process: BaseProcess
    pipe: Connection
    report: Report | None = None
    lost: bool = False
    answers: list[Any] = field(default_factory=list)

    def receive(self, progress: Progress) -> None:
        """Pass on the progress that the worker has sent so far, and take its results and its report."""
        ended = self.process.exitcode is not None  # before the pipe is emptied: nothing comes after that
        try:
            while self.report is None and self.pipe.poll():
                message = self.pipe.recv()
                if isinstance(message, Report):
                    self.report = message
                elif isinstance(message, Answer):
                    self.answers.append(message.value)
                else:
                    progress(*message)
        except (EOFError, OSError):
            pass
        self.lost = ended and self.report is None

    @property
    def failed(self) -> bool:
        """True where the worker reported an error, or ended without a report."""
        return self.lost or (self.report is not None and (self.report.error is not None or bool(self.report.defect)))


class ProcessPool:
    """Workers that are ended when the context ends.

    Args:
        hint: What to do where workers are killed, for the error.
    """

    def __init__(self, *, hint: str) -> None:
        self.workers: list[Worker] = []
        self._hint = hint
        self._restarts = 0

    def __enter__(self) -> ProcessPool:
        """Return the pool, without a worker yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the workers that are left."""
        self.stop()

    def start(self, task: Task) -> None:
        """Start a worker; it inherits the environment variables of this moment."""
        self.workers.append(_started(task))
        self._restarts += RESTARTS

    def check(self) -> list[int]:
        """Start the workers anew that were lost or met a defect, and return their numbers.

        Raises:
            YoloqatError: A worker reported it.
            CheckFailedError: Workers end again and again.
        """
        again = []
        for number, worker in enumerate(self.workers):
            worker.receive(silent)
            report = worker.report
            if report is not None and report.error is not None:
                raise report.error
            if not worker.failed or worker.process.exitcode is None:
                continue
            self._restarts -= 1
            if self._restarts < 0:
                raise CheckFailedError(
                    f"worker {number} ended with code {worker.process.exitcode}",
                    expected="workers that live",
                    hint=self._hint,
                ) from (RuntimeError(report.defect) if report is not None and report.defect else None)
            worker.pipe.close()
            self.workers[number] = _started(worker.task)
            again.append(number)
        return again

    def join(self, progress: Progress = silent) -> None:
        """Wait until every worker has done its task.

        Args:
            progress: Notified of what the workers report.

        Raises:
            YoloqatError: A worker reported it.
            CheckFailedError: A worker was killed.
            RuntimeError: A worker met a defect; the text is its traceback.
        """
        deadline = None
        while True:
            for worker in self.workers:
                worker.receive(progress)
            if any(worker.failed for worker in self.workers):
                deadline = deadline or time.monotonic() + GRACE_SECONDS
                if time.monotonic() > deadline or all(worker.process.exitcode is not None for worker in self.workers):
                    raise_cause(self.workers, hint=self._hint)
            elif all(worker.report is not None for worker in self.workers):
                return
            waiting: list[Any] = [worker.pipe for worker in self.workers if worker.report is None and not worker.failed]
            waiting += [worker.process.sentinel for worker in self.workers if worker.process.exitcode is None]
            wait(waiting, timeout=0.2)

    def stop(self) -> None:
        """End the workers, by force where they take too long."""
        until = time.monotonic() + STOP_SECONDS
        for worker in self.workers:
            if worker.report is None and worker.process.is_alive():  # with a report it is about to end
                worker.process.terminate()
        for worker in self.workers:
            worker.process.join(max(0.0, until - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.pipe.close()


def raise_cause(workers: list[Worker], *, hint: str) -> NoReturn:
    """Raise what the trouble began with: a worker that was killed, else the first error, else the first defect."""
    for number, worker in enumerate(workers):
        if worker.report is None and worker.process.exitcode is not None:
            raise CheckFailedError(
                f"process {number} of {len(workers)} ended with code {worker.process.exitcode}",
                expected="processes that live to the end",
                hint=hint,
            )
    reports = sorted((worker.report for worker in workers if worker.report is not None), key=lambda report: report.at)
    for report in reports:
        if report.error is not None:
            raise report.error
    raise RuntimeError(next(report.defect for report in reports if report.defect is not None))


def _started(task: Task) -> Worker:
    context: Any = multiprocessing.get_context("spawn")  # a fork would inherit torch's threads and CUDA's state
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(task, theirs))
    with _interrupts_ignored():
        process.start()
    theirs.close()
    return Worker(task, process, ours)


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Let processes that are started meanwhile ignore ^C, which reaches all of a terminal: this one ends them in order."""
    if threading.current_thread() is not threading.main_thread():  # others may not choose
        yield
        return
    kept = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, kept)


def _serve(task: Task, pipe: Connection) -> None:
    """Run a task in a worker and report how it ended."""

    def interrupted(number: int, frame: object) -> NoReturn:
        """Unwind, so that no half-written file stays behind; once is enough."""
        del frame
        signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupted)
    try:
        try:
            task(Parent(pipe))
            pipe.send(Report(time.monotonic()))
        except YoloqatError as error:
            pipe.send(Report(time.monotonic(), error=error))
        except Exception:  # whatever it is, the one who waits must know of it
            pipe.send(Report(time.monotonic(), defect=traceback.format_exc()))
            sys.exit(1)
    except (KeyboardInterrupt, ConnectionError):
        return
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # this process ends by itself now
