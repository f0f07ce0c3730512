"""The loop that every process of a scan runs: claim pieces, do them, write them down."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from yoloqat.errors import YoloqatError
from yoloqat.progress import Progress, silent
from yoloqat.sensitivity.scanner import Scanner
from yoloqat.sensitivity.study import LEASE_SECONDS, Study

WAIT_SECONDS = 0.2
"""Pause before looking again where others hold all that is left."""

STEP = "sensitivity"


@contextmanager
def heartbeat(study: Study, *, every: float = LEASE_SECONDS / 6) -> Iterator[None]:
    """Renew the study's claims from a thread until the context ends, and then give up what is left of them."""
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(every):
            with suppress(YoloqatError):  # whoever works on the study meets it too, and tells of it
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
        progress: Told of every finished piece, of whichever process.
        wanted: Asked after every piece; False ends the work.

    Raises:
        DataError: The study lists pieces that this scan does not have, or an image does not decode.
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
            chunk, names = claimed
            if not 0 <= chunk < len(scanner.chunks) or not set(names) <= set(scanner.names):
                raise study.damaged(ValueError(f"pieces of chunk {chunk} for {', '.join(names)}"))
            for name, finding in scanner.run(chunk, names):
                study.finish(name, chunk, finding)
                done += 1
                progress(STEP, min(done, total - 1), total)
                if not wanted():
                    return
