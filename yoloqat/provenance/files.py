"""Files and directories that appear whole under their name, or not at all."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from yoloqat.errors import OutputError


def _cannot_write(path: Path, error: OSError) -> OutputError:
    reason = error.strerror or type(error).__name__
    return OutputError(
        f"cannot write '{path}' ({reason})",
        expected="a writable path with enough free space",
        mend="free space there or name another directory with --out",
    )


@contextmanager
def _renamed_into(path: Path, temporary: Path) -> Iterator[Path]:
    """Yield ``temporary``; move it to ``path`` when the block ends well, remove it when it does not."""
    former = temporary.with_name(f"{temporary.name}-former")
    try:
        yield temporary
        if path.is_dir() and temporary.is_dir():
            os.replace(path, former)  # a directory that holds something cannot be replaced in one step
        os.replace(temporary, path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        if former.is_dir():
            if path.exists():
                shutil.rmtree(former, ignore_errors=True)
            else:
                os.replace(former, path)
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary file name beside ``path`` that takes its place when the block ends without an error.

    Args:
        path: The final file. Its parent directories are made.

    Yields:
        The temporary path to write to, with the same suffix (some writers look at it).

    Raises:
        OutputError: The directory cannot be made or the file cannot be written, e.g. because the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    except OSError as error:
        raise _cannot_write(path, error) from error
    os.close(handle)
    # mkstemp makes the file private; a result should have the permissions any other new file would have
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(name, 0o666 & ~umask)
    with _renamed_into(path, Path(name)) as temporary:
        yield temporary


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Give a temporary directory beside ``path`` that takes its place when the block ends without an error.

    Args:
        path: The final directory; one that exists already is replaced at the end, not before.

    Yields:
        The temporary directory to fill.

    Raises:
        OutputError: The directory cannot be made or filled, e.g. because the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        name = tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-")
    except OSError as error:
        raise _cannot_write(path, error) from error
    os.chmod(name, 0o755)  # noqa: S103 - a result is as readable as any other new directory
    with _renamed_into(path, Path(name)) as temporary:
        yield temporary


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
