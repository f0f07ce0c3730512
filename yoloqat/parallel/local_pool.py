"""A pool of processes of this machine that are handed one call after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import wait
from typing import Any

from yoloqat.parallel.processes import Parent, ProcessPool
from yoloqat.progress import Progress, silent, tell

POLL_SECONDS = 1.0
"""How often an idle worker looks whether its parent is there."""


class LocalPool:
    """Workers that are each handed calls of a function of their own.

    A call whose worker is lost is done again by the one that is started in its place.

    Args:
        pool: Takes the processes.
        functions: What each worker calls; pickled to get there.
        progress: Told of workers that were lost.

    Attributes:
        idle: Numbers of the workers that have no call.
    """

    def __init__(
        self, pool: ProcessPool, functions: Sequence[Callable[..., Any]], *, progress: Progress = silent
    ) -> None:
        for function in functions:
            pool.start(partial(_serve, function))
        self.idle = list(range(len(functions)))
        self._pool, self._progress = pool, progress
        self._running: dict[int, tuple[Any, ...]] = {}

    def submit(self, *arguments: Any) -> None:
        """Let an idle worker call its function."""
        number = self.idle.pop()
        self._running[number] = arguments
        self._send(number)

    def _send(self, number: int) -> None:
        with suppress(OSError):  # a worker that is gone is replaced when results are asked for
            self._pool.workers[number].pipe.send(self._running[number])

    def results(self, seconds: float) -> Iterator[tuple[tuple[Any, ...], Any]]:
        """Yield arguments and result of each call that is done, after waiting for one at most so long.

        Raises:
            YoloqatError: A worker met it.
            CheckFailedError: Workers end again and again.
        """
        workers = self._pool.workers
        waiting: list[Any] = [end for worker in workers for end in (worker.pipe, worker.process.sentinel)]
        wait(waiting, timeout=seconds)
        for number in self._pool.check():
            again = "; what it was doing is done again" if number in self._running else ""
            tell(self._progress, f"worker {number} was lost and is started anew{again}")
            if again:
                self._send(number)
        for number in list(self._running):
            answers = workers[number].answers
            if answers:
                self.idle.append(number)
                yield self._running.pop(number), answers.pop()


@contextmanager
def local_pool(
    functions: Sequence[Callable[..., Any]], *, hint: str, progress: Progress = silent
) -> Iterator[LocalPool]:
    """Give a worker for each of some functions until the context ends.

    Args:
        functions: What each worker calls; pickled to get there.
        hint: What to do where workers end again and again, for the error.
        progress: Told of workers that were lost.
    """
    with ProcessPool(hint=hint) as pool:
        yield LocalPool(pool, functions, progress=progress)


def _serve(function: Callable[..., Any], parent: Parent) -> None:
    """Do what the parent asks until this process is ended, or the parent is gone."""
    while parent.alive():
        arguments = parent.receive(POLL_SECONDS)
        if arguments is not None:
            parent.answer(function(*arguments))
