"""Who works on a study, and whether he is still there."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def this_process() -> str:
    """Return a text that names this process and no other, also not a later one of the same number."""
    return f"{socket.gethostname()}:{os.getpid()}:{_start(os.getpid())}"


def is_gone(owner: str) -> bool:
    """Return True where ``owner`` was a process of this machine that has ended; of others nobody knows.

    On Windows of none: there is no signal that only asks, and number 0 is the one of Ctrl-C.
    """
    host, _, rest = owner.partition(":")
    number, _, start = rest.partition(":")
    if host != socket.gethostname() or not number.isdecimal() or os.name == "nt":
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return _start(int(number)) != start


def _start(process: int) -> str:
    """Return when a process was started, in ticks since the machine was; empty where that cannot be read."""
    try:
        # the second field is the name in brackets, which may hold spaces
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ""
    return f"{fields[19]}{'-zombie' if fields[0] == 'Z' else ''}"
