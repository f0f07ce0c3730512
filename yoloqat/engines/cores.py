"""Processor cores: which of them a measurement may use, and keeping it there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

_SIBLINGS = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"


def choose_cores(allowed: Sequence[int], siblings: Mapping[int, str], count: int) -> list[int]:
    """Return ``count`` of the allowed cores: one of each physical core first, then their hardware threads.

    Args:
        allowed: Logical cores that the process may run on.
        siblings: Logical core to what names its physical core; a core without an entry stands for itself.
        count: How many are wanted; all are returned where there are fewer.
    """
    first: dict[str, int] = {}
    for core in sorted(allowed):
        first.setdefault(siblings.get(core, str(core)), core)
    others = [core for core in sorted(allowed) if core not in first.values()]
    return sorted([*first.values(), *others][:count])


def _physical(core: int) -> str:
    try:
        return Path(_SIBLINGS.format(core)).read_text(encoding="ascii").strip()
    except OSError:
        return str(core)


@contextmanager
def pinned(threads: int) -> Iterator[list[int]]:
    """Keep the calling thread, and all that it starts meanwhile, on as many cores as threads are measured.

    Runtimes whose threads were started before stay where they are, so open the models inside. Where the system cannot
    pin (macOS), nothing is done.

    Args:
        threads: Number of cores.

    Yields:
        The logical cores, an empty list where nothing was pinned.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield []
        return
    before = os.sched_getaffinity(0)
    cores = choose_cores(sorted(before), {core: _physical(core) for core in before}, threads)
    os.sched_setaffinity(0, cores)
    try:
        yield cores
    finally:
        os.sched_setaffinity(0, before)
