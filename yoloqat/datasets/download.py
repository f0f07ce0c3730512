"""One file from a server: received in pieces, taken up again where it stopped, and checked.

What has arrived lies in a ``.part`` file. A later call asks the server for the rest alone (RFC 9110, section 14); where
the server does not serve ranges, the file starts over.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from io import BufferedWriter
from pathlib import Path
from typing import cast
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from yoloqat.errors import DataError, OutputError
from yoloqat.progress import Progress, silent

CHUNK = 1 << 18
PAUSES = (1.0, 5.0, 15.0)
"""Seconds before each new try after a connection that had worked broke; each byte of progress grants them anew."""

_MEGABYTE = 1_000_000


class _UnreachableError(Exception):
    """No answer came from the server."""


def in_megabytes(progress: Progress, step: str, size: int) -> Callable[[int], None]:
    """Return what takes a number of bytes, of which there are ``size``, and tells ``progress`` in megabytes."""
    total = max(1, round(size / _MEGABYTE))
    return lambda done: progress(f"{step}, MB", done * total // max(1, size), total)


def held(path: Path) -> int:
    """Return how many bytes of a file are there, 0 where it is absent."""
    return path.stat().st_size if path.exists() else 0


def fetch(
    url: str,
    part: Path,
    size: int,
    *,
    hint: str,
    pauses: tuple[float, ...] = PAUSES,
    timeout: float = 30.0,
    progress: Progress = silent,
) -> int:
    """Receive a file of a known size, going on where an earlier call stopped.

    Args:
        url: An ``http`` or ``https`` address.
        part: Where the bytes go; what it holds already is taken for the beginning of the file.
        size: Of the whole file in bytes.
        hint: What the user can do where the server fails, for errors.
        pauses: Seconds to wait before each new try once something has arrived; nothing is tried again before that.
        timeout: Seconds that the server may be silent.
        progress: Told how many megabytes are there.

    Returns:
        How many bytes were received by this call. The content is not checked: see :func:`check_md5`.

    Raises:
        DataError: The server cannot be reached, refuses, or offers a file of another size.
        OutputError: The bytes cannot be written, e.g. because the disk is full; those that were stay.
    """
    tell = in_megabytes(progress, f"fetch {part.name.removesuffix('.part')}", size)
    if held(part) > size:
        part.unlink()
    received, furthest, left = 0, held(part), list(pauses)
    reason = "the connection broke"
    while held(part) < size:
        try:
            received += _receive(url, part, size, timeout, hint=hint, tell=tell)
        except _UnreachableError as error:
            reason = str(error)
        if held(part) > furthest:
            furthest, left = held(part), list(pauses)
        elif received and left:
            time.sleep(left.pop(0))
        else:
            raise DataError(
                f"cannot get '{url}' ({reason}; {held(part)} of {size} bytes are there)",
                expected="a server that can be reached",
                hint=hint,
            )
    tell(size)
    return received


def _receive(url: str, part: Path, size: int, timeout: float, *, hint: str, tell: Callable[[int], None]) -> int:
    """Take what one connection brings and return how many bytes that was."""
    start = held(part)
    with _answer(url, start, timeout, hint) as response:
        if response.status != 206:  # the whole file, whether or not a range was asked for
            start = 0
        offered = _offered(response)
        if offered is not None and offered != (start, size):
            raise DataError(
                f"'{url}' offers {offered[1]} bytes from byte {offered[0]}",
                expected=f"{size} bytes from byte {start}",
                hint=hint,
            )
        try:
            with part.open("ab" if start else "wb") as file:
                return _copy(response, file, start, size, tell=tell)
        except OSError as error:
            raise OutputError(
                f"cannot write '{part}' ({error.strerror or error})",
                expected=f"a writable file and space for {size} bytes",
                hint="free space and run again, which goes on from here, or name another directory with `out`",
            ) from error


def _answer(url: str, start: int, timeout: float, hint: str) -> HTTPResponse:
    request = Request(url, headers={"Range": f"bytes={start}-"} if start else {})  # noqa: S310 - the caller's address
    try:
        return cast(HTTPResponse, urlopen(request, timeout=timeout))  # noqa: S310 - checked by the caller
    except HTTPError as error:
        error.close()
        raise DataError(
            f"'{url}' answers {error.code} {error.reason}", expected="the file (200 or 206)", hint=hint
        ) from error
    except (OSError, HTTPException, ValueError) as error:
        cause = error.reason if isinstance(error, URLError) else error
        raise _UnreachableError(getattr(cause, "strerror", None) or str(cause) or type(cause).__name__) from error


def _offered(response: HTTPResponse) -> tuple[int, int] | None:
    """Return the first byte that is served and the size of the whole file, or None where the server does not say."""
    if response.status == 206:
        served, _, total = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        first = served.partition("-")[0]
        return (int(first), int(total)) if first.isdecimal() and total.isdecimal() else (0, 0)
    length = response.headers.get("Content-Length", "")
    return (0, int(length)) if length.isdecimal() else None


def _copy(response: HTTPResponse, file: BufferedWriter, start: int, size: int, *, tell: Callable[[int], None]) -> int:
    done = start
    while done < size and (chunk := _read(response, min(CHUNK, size - done))):
        file.write(chunk)
        done += len(chunk)
        tell(done)
    return done - start


def _read(response: HTTPResponse, most: int) -> bytes:
    """Return what has arrived; nothing where the connection ended or broke, which the file's size tells apart."""
    try:
        return response.read1(most)
    except (OSError, HTTPException):
        return b""


def check_md5(path: Path, expected: str, *, hint: str, progress: Progress = silent) -> None:
    """Check a file's content.

    Args:
        path: The file.
        expected: Its MD5 in lower-case hex; what COCO's files are known by. It tells damage, not malice.
        hint: What the user can do, for errors.
        progress: Told how many megabytes are checked.

    Raises:
        DataError: The checksum is another one, or the file cannot be read.
    """
    size = held(path)
    tell = in_megabytes(progress, f"check {path.name.removesuffix('.part')}", size)
    found = hashlib.md5(usedforsecurity=False)
    try:
        if not path.is_file() and not path.is_dir():
            raise OSError(0, "it is no regular file")
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                found.update(chunk)
                tell(file.tell())
    except OSError as error:
        raise DataError(
            f"'{path}' cannot be read ({error.strerror or error})", expected="a readable file", hint=hint
        ) from error
    if found.hexdigest() != expected:
        raise DataError(f"the MD5 of '{path}' is {found.hexdigest()}", expected=expected, hint=hint)
