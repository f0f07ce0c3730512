"""Hashes of files and of plain values, by which results find what belongs to them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from yoloqat.errors import DataError


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as lower-case hex.

    Raises:
        DataError: The file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(
            f"cannot read '{path}' ({error.strerror})",
            expected="a readable file",
            hint="check the path and its permissions",
        ) from error


def digest(value: Any) -> str:
    """Return the first 16 hex digits of the SHA-256 of a JSON-able value, independent of the order of dict keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
