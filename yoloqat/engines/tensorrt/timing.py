"""The timing cache: measured tactics, kept in a file so that the next build need not measure them again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from yoloqat.errors import EngineError
from yoloqat.provenance import atomic_path


def use_timing_cache(config: Any, path: Path) -> bool:
    """Give ``config`` the cache of a file, or an empty one where there is none that fits this TensorRT and device.

    Returns:
        Whether the file's cache is used.

    Raises:
        EngineError: The file cannot be read.
    """
    try:
        kept = path.read_bytes() if path.is_file() else b""
    except OSError as error:
        raise EngineError(
            f"cannot read the timing cache '{path}' ({error.strerror or error})",
            expected="a file that an earlier build wrote, or none",
            hint="name another with `timing_cache`",
        ) from error
    cache = config.create_timing_cache(kept) if kept else None
    if cache is not None and config.set_timing_cache(cache, False):
        return True
    config.set_timing_cache(config.create_timing_cache(b""), False)
    return False


def keep_timing_cache(config: Any, path: Path) -> None:
    """Write the cache of ``config``, whole or not at all.

    Raises:
        OutputError: The file cannot be written.
    """
    cache = config.get_timing_cache()
    if cache is None:
        return
    with atomic_path(path) as temporary:
        temporary.write_bytes(memoryview(cache.serialize()))
