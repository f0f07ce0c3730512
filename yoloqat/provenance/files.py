"""Files and directories that appear whole under their name, or not at all.

What a killed process left is recognised by a lock that nobody holds any more. Windows has no such lock on a directory: there
it stays until the user removes it.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from yoloqat.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows
    _LOCKS = False
else:
    _LOCKS = True

_SCRATCH = ".yoloqat-tmp-"
"""How the name of a scratch directory begins; eight more characters follow."""


def _cannot_write(path: Path, error: OSError) -> OutputError:
    reason = error.strerror or type(error).__name__
    return OutputError(
        f"cannot write '{path}' ({reason})",
        expected="a writable path with enough free space",
        hint="free space there or name another directory with `out`",
    )


def _remove_abandoned(folder: Path) -> None:
    """Remove the scratch directories that killed processes left in ``folder``; a living owner holds a lock on its own."""
    for path in folder.glob(f"{_SCRATCH}????????"):
        with suppress(OSError):  # another's, gone meanwhile, locked, or on a file system without locks: left alone
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(handle)


def _claim(folder: Path) -> tuple[Path, int | None]:
    """Make a scratch directory and lock it where that can be; another process may have removed it before it was locked."""
    while True:
        path = Path(tempfile.mkdtemp(dir=folder, prefix=_SCRATCH))
        if not _LOCKS:
            return path, None
        with suppress(FileNotFoundError):
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            with suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
            if path.is_dir():
                return path, handle
            os.close(handle)


@contextmanager
def scratch_directory(folder: Path) -> Iterator[Path]:
    """Make a hidden directory of this process's own inside ``folder`` and remove it at the end.

    Those that killed processes left there are removed first, where the system has locks.

    Args:
        folder: An existing directory.

    Yields:
        The scratch directory.

    Raises:
        OSError: It cannot be made.
    """
    if _LOCKS:
        _remove_abandoned(folder)
    path, handle = _claim(folder)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        if handle is not None:
            os.close(handle)


@contextmanager
def _scratch_beside(path: Path) -> Iterator[Path]:
    """Make a scratch directory beside ``path``; an error inside is raised as a failure to write ``path``."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with scratch_directory(path.parent) as folder:
            yield folder
    except OSError as error:
        raise _cannot_write(path, error) from error


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary file that takes the place of ``path`` when the block ends without an error.

    Args:
        path: The final file. Its parent directories are made.

    Yields:
        The temporary path to write to, of the same name, on the same file system. Whatever the writer makes of it, the
        result has the permissions of any other new file.

    Raises:
        OutputError: The directory cannot be made or the file cannot be written, e.g. because the disk is full.
    """
    with _scratch_beside(path) as folder:
        temporary = folder / path.name
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(stat.S_IMODE(mode))  # safetensors puts a private file of its own in place
        os.replace(temporary, path)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Give a temporary directory that takes the place of ``path`` when the block ends without an error.

    Args:
        path: The final directory; one that exists already is replaced at the end, not before.

    Yields:
        The temporary directory to fill, on the same file system.

    Raises:
        OutputError: The directory cannot be made or filled, e.g. because the disk is full.
    """
    with _scratch_beside(path) as folder:
        temporary, former = folder / "new", folder / "former"
        temporary.mkdir()
        yield temporary
        if path.is_dir():
            os.replace(path, former)  # a directory that holds something cannot be replaced in one step
        try:
            os.replace(temporary, path)
        finally:
            if former.is_dir() and not path.exists():
                os.replace(former, path)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8, whole or not at all.

    Raises:
        OutputError: The file cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def finite(value: Any, path: str = "") -> tuple[Any, dict[str, str]]:
    """Return a value as JSON can hold it, and where it could not: the path of each number that is not finite, and the number.

    Args:
        value: Nested dicts, lists and tuples; not changed.
        path: Of the value itself.

    Returns:
        The same with null for NaN and infinity, and e.g. ``{"methods[0].drop": "nan"}``.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return None, {path: str(value)}
    if isinstance(value, dict):
        parts = {key: finite(part, f"{path}.{key}" if path else str(key)) for key, part in value.items()}
        return {key: part for key, (part, _) in parts.items()}, _joined(lost for _, lost in parts.values())
    if isinstance(value, list | tuple):
        entries = [finite(part, f"{path}[{index}]") for index, part in enumerate(value)]
        return [part for part, _ in entries], _joined(lost for _, lost in entries)
    return value, {}


def _joined(parts: Iterable[dict[str, str]]) -> dict[str, str]:
    return {path: text for part in parts for path, text in part.items()}


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` to ``path`` as indented JSON with unrounded numbers, whole or not at all.

    Raises:
        OutputError: The file cannot be written.
        ValueError: A number is NaN or infinite, which JSON does not have.
    """
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")
