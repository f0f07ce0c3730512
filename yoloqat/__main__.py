"""The program ``yoloqat``, also as ``python -m yoloqat``: signals and standard streams set right, then the command line."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TextIO

from yoloqat import interrupt


def _open_streams() -> None:
    """Open what is closed of the standard streams, and let text that a stream cannot encode come out escaped."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number; a result must not
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - a stream of the process
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # no file
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _flush(stream: TextIO) -> bool:
    """Write what a stream holds back; where its reader is gone or its disk full, forget it. Return False for the latter."""
    try:
        stream.flush()
    except OSError as error:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        return isinstance(error, BrokenPipeError)
    return True


def main() -> int:
    """Run the command line on the process's own arguments and return its exit code."""
    interrupt.begin()
    _open_streams()
    from yoloqat.cli import main as run  # after the signals: this may take seconds

    try:
        code = run()
    except SystemExit as stop:  # of the parser
        code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 2
    except KeyboardInterrupt:
        sys.stderr.write("yoloqat: interrupted\n")
        code = interrupt.CODE
    except BrokenPipeError:  # nobody reads what is told on standard error
        code = 2
    interrupt.work_ended(code)
    told = [_flush(stream) for stream in (sys.stdout, sys.stderr)]
    return code if all(told) or code else 2


if __name__ == "__main__":
    sys.exit(main())
