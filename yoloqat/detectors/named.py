"""Weights known by name, such as ``yolov8n.pt``, which Ultralytics downloads."""

from __future__ import annotations

import os
from pathlib import Path

from yoloqat.detectors.ultralytics_import import QUIET, environment_kept, ultralytics_module
from yoloqat.errors import ModelError
from yoloqat.provenance import scratch_directory

RELEASES = "https://github.com/ultralytics/assets/releases"


def is_named(path: Path) -> bool:
    """Return whether a path is the bare name of weights that the installed Ultralytics offers, and no such file exists.

    A path with a directory never is, so that a mistyped path is an error instead of another file.
    """
    if path.suffix != ".pt" or len(path.parts) != 1 or path.exists():
        return False
    return path.name in ultralytics_module("utils.downloads").GITHUB_ASSETS_NAMES


def fetch_named(name: str) -> Path:
    """Fetch weights by Ultralytics' own downloader into the current directory, whole or not at all.

    Args:
        name: Of which :func:`is_named` is true.

    Returns:
        The file: in the current directory, or the one that Ultralytics' settings keep weights in, where it is already.

    Raises:
        ModelError: There is no network, the server fails, or the file cannot be written.
    """
    try:
        with scratch_directory(Path()) as folder:
            path = download(name, folder)
            if path.parent != folder:
                return path
            os.replace(path, name)
    except (OSError, MemoryError) as error:
        raise ModelError(
            f"model '{name}' is not in '{Path.cwd()}', and Ultralytics could not fetch it ({_reason(error)})",
            expected="a file, or a network to fetch it",
            hint=f"fetch {name} from {RELEASES} elsewhere and put it there, or name your own file",
        ) from error
    return Path(name)


def _reason(error: BaseException) -> str:
    """Return the message of the innermost of chained errors; the outer ones repeat it at length."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def download(name: str, folder: Path) -> Path:
    """Let Ultralytics fetch weights into ``folder``; return the file, which lies elsewhere if Ultralytics had it already.

    The first connection that fails ends it: once it counts as offline, Ultralytics neither asks other servers for a network
    nor waits to try again.

    Raises:
        OSError: The file cannot be fetched or written.
        MemoryError: The disk has too little space; Ultralytics raises this type.
    """
    module = ultralytics_module("utils.downloads")
    with environment_kept(**QUIET):
        found = Path(module.attempt_download_asset(name, dir=folder, retry=1, progress=False))
    fetched = folder / name
    if fetched.is_file():
        return fetched
    if found.is_file():
        return found
    raise FileNotFoundError(f"nothing arrived for {name}")
