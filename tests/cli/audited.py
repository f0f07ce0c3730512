"""Run command lines in this process under a hook that lets nothing run, connect or be written where it does not belong.

    python audited.py LINES.json FOUND.json ALLOWED...

LINES holds a list of command lines; FOUND gets their exit codes, what they told, and what the hook refused.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

RUN = {"os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile", "subprocess.Popen", "pty.spawn"}
CONNECT = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.sendto"}
WRITE = {"os.mkdir": 0, "os.remove": 0, "os.rmdir": 0, "os.rename": 1, "os.symlink": 1, "os.link": 1, "os.truncate": 0}
"""Events that change a directory, with the place of the path among their arguments."""
PROGRAMS = {"fc-list", "git", "ldconfig", "lscpu", "uname"}
"""What is asked for the machine and the versions that a result was made with."""
DEMO_IMAGES = 12
FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def is_trial(command: list[Any]) -> bool:
    """Return whether a command is the trial of OpenVINO's reader, which may take the process down; nothing else is."""
    module = sys.modules.get("yoloqat.engines.openvino_import")
    return module is not None and command[:3] == [sys.executable, "-P", module.__file__] and len(command) <= 4


def hook(allowed: list[Path], refused: list[str]) -> Any:
    """Return an audit hook that notes what it refuses, and raises."""

    def belongs(path: Any) -> bool:
        if isinstance(path, int) or path is None:
            return True
        place = Path(os.path.abspath(os.fsdecode(path)))  # noqa: PTH100 - resolve() would open what it looks at
        return any(place.is_relative_to(folder) for folder in allowed) or str(place) == os.devnull

    def check(event: str, arguments: tuple[Any, ...]) -> None:
        told = None
        if event in RUN:
            command = list(arguments[1] or arguments[:1]) if event == "subprocess.Popen" else [arguments[0]]
            program = command[0]
            if Path(str(program)).name not in PROGRAMS and not is_trial(command):
                told = f"{event} {program!r}"
        elif event in CONNECT:
            told = f"{event} {arguments[:2]!r}"
        elif event == "open":
            path, mode, flags = arguments
            writes = any(letter in mode for letter in "wax+") if isinstance(mode, str) else (flags or 0) & FLAGS
            if writes and not belongs(path):
                told = f"open {path!r} {mode!r}"
        elif event in WRITE and not belongs(arguments[WRITE[event]]):
            told = f"{event} {arguments!r}"
        if told is not None:
            refused.append(told)
            raise PermissionError(told)

    return check


def main() -> None:
    """Run all lines and write what was found."""
    lines, found, *allowed = sys.argv[1:]
    refused: list[str] = []
    gc.set_threshold(50_000, 20, 100)  # as in the suite's own processes
    sys.addaudithook(hook([Path(folder) for folder in (*allowed, Path(lines).parent / "few")], refused))
    sys.path.append(str(Path(__file__).parents[1]))
    from few_images import demo_of_few_images
    from traced_once import shared_traces

    from yoloqat.cli import main as yoloqat
    from yoloqat.pipeline import demo, quantize_way

    # the same steps, fewer times and images
    weights, data = demo.demo_assets()
    few = demo_of_few_images(data, Path(lines).parent / "few", images=DEMO_IMAGES)
    demo.demo_assets = lambda: (weights, few)
    demo.CALIBRATION_IMAGES, demo.COMPARED, demo.METHODS = 8, 4, ("mse",)
    quantize_way.BENCH_ROUNDS, quantize_way.TRIES = 2, 1

    results = []
    with shared_traces():
        for line in json.loads(Path(lines).read_text()):
            out, err = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                try:
                    code = yoloqat(line)
                except SystemExit as stop:
                    code = int(stop.code or 0)
            results.append({"line": line, "code": code, "err": err.getvalue(), "refused": refused[:]})
            refused.clear()
    Path(found).write_text(json.dumps(results))


if __name__ == "__main__":
    main()
