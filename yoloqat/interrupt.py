"""What ^C and the signals to end do: while nothing is at work, end at once with one line; else let the work end in order.

Importing torch takes seconds, in which Python would answer ^C with a traceback or even lose it. Only the handlers that
Python or the system set by themselves are replaced: `nohup` and a shell's background jobs keep theirs.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from _thread import interrupt_main
from types import FrameType

CODE = 130
"""The exit code of an interrupted command."""
_LINE = b"yoloqat: interrupted\n"
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


def _end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a signal's handler
    os.write(2, _LINE)
    os._exit(CODE)


def _end_silently(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a signal's handler
    os._exit(CODE)


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a signal's handler
    raise KeyboardInterrupt


def _interrupt_main() -> None:
    """Interrupt the main thread, also where it waits for the system; on Windows as soon as it runs Python again."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        interrupt_main()


def _tell_again(raised: sys.UnraisableHookArgs) -> None:
    """Interrupt anew, a moment later, where Python could not raise an interruption, as in a destructor."""
    if issubclass(raised.exc_type, KeyboardInterrupt):
        again = threading.Timer(0.05, _interrupt_main)
        again.daemon = True
        again.start()
    else:
        sys.__unraisablehook__(raised)


def _leave_workers_alone() -> None:
    """Let a forked worker that its owner ends do so at once, as without these handlers."""
    for number in _SIGNALS:
        if number != signal.SIGINT and signal.getsignal(number) in (_end, _interrupt, _end_silently):
            signal.signal(number, signal.SIG_DFL)


def begin() -> None:
    """Let the signals end the process at once, with one line: nothing is at work yet."""
    for number in _SIGNALS:
        if signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL):
            signal.signal(number, _end)
    if hasattr(os, "register_at_fork"):  # Windows does not fork
        os.register_at_fork(after_in_child=_leave_workers_alone)


def work_begins() -> None:
    """Let the signals raise `KeyboardInterrupt` where :func:`begin` has set them."""
    for number in _SIGNALS:
        if signal.getsignal(number) is _end:
            signal.signal(number, _interrupt)
            sys.unraisablehook = _tell_again


def work_ended(code: int) -> None:
    """Let the signals end the process at once again; with a line where ``code`` tells of no interruption."""
    for number in _SIGNALS:
        if signal.getsignal(number) in (_interrupt, _end):
            signal.signal(number, _end_silently if code == CODE else _end)
