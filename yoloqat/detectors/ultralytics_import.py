"""Import Ultralytics so that it installs nothing, opens no connection and leaves the process's environment alone.

On import Ultralytics reads several environment variables once, looks for a network, and sets OMP_NUM_THREADS to 1. All of
yoloqat reaches it through :func:`ultralytics_module`, nowhere else.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import torch  # noqa: F401 - loaded first, so that its thread pools are set up from the user's environment

QUIET = {
    "ULTRALYTICS_SAFE_LOAD": "true",
    "YOLO_AUTOINSTALL": "false",
    "YOLO_OFFLINE": "true",
    "YOLO_VERBOSE": "false",
}
"""Environment variables for the import of Ultralytics: no pickled code, no evaluated text, no pip, no network."""


@contextmanager
def environment_kept(**changes: str) -> Iterator[None]:
    """Set environment variables inside the block and restore the whole environment afterwards."""
    kept = dict(os.environ)
    os.environ.update(changes)
    try:
        yield
    finally:
        for name in set(os.environ) - set(kept):
            del os.environ[name]
        os.environ.update(kept)


def ultralytics_module(name: str) -> ModuleType:
    """Import ``ultralytics.<name>``, e.g. ``"nn.tasks"``.

    A process that has imported Ultralytics by itself before keeps the settings it had then.
    """
    with environment_kept(**QUIET):
        return importlib.import_module(f"ultralytics.{name}")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Ultralytics' log lines from the terminal."""
    logger = logging.getLogger("ultralytics")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
