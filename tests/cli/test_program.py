"""The program around the command line: signals at any moment, and streams that are closed, full or of another encoding."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table

from yoloqat.cli.terminal import Screen, progress_bars
from yoloqat.errors import OutputError

ROOT = Path(__file__).resolve().parents[2]
HEED = "import signal, time; signal.signal(signal.SIGINT, signal.default_int_handler); from yoloqat import interrupt\n"
READY = "print('ready', flush=True); time.sleep(60)\n"
ENDING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


def signalled(code: list[str], number: int, **environment: str) -> tuple[int, str, str]:
    """Run Python until it is ready, send it a signal, and return exit code, output and errors."""
    process = subprocess.Popen(
        [sys.executable, *code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | environment,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    try:
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    return process.returncode, out, err


@pytest.mark.parametrize("number", ENDING)
@pytest.mark.parametrize("moment", ["interrupt.begin()", "interrupt.begin(); interrupt.work_ended(0)"])
def test_where_nothing_is_at_work_a_signal_ends_with_one_line(number: int, moment: str) -> None:
    code = f"{HEED}{moment}\ntry:\n    {READY}finally:\n    print('not reached')"
    assert signalled(["-c", code], number) == (130, "", "yoloqat: interrupted\n")


@pytest.mark.parametrize("number", ENDING)
def test_at_work_a_signal_lets_it_end_in_order(number: int) -> None:
    code = f"""{HEED}interrupt.begin(); interrupt.work_begins()
try:
    {READY}
except KeyboardInterrupt:
    print("in order", flush=True)
    interrupt.work_ended(130)
    signal.raise_signal(signal.{signal.Signals(number).name})
"""
    assert signalled(["-c", code], number) == (130, "in order\n", "")


def test_an_interruption_that_a_destructor_swallows_is_told_again() -> None:
    code = f"""{HEED}interrupt.begin(); interrupt.work_begins()
class Slow:
    def __del__(self):
        {READY}
try:
    Slow()
    time.sleep(60)
except KeyboardInterrupt:
    print("told", flush=True)
"""
    assert signalled(["-c", code], signal.SIGINT) == (0, "told\n", "")


def test_it_starts_and_tells_again_without_what_posix_alone_has() -> None:
    code = f"""import os, signal
del signal.SIGHUP, signal.pthread_kill, os.register_at_fork
{HEED}interrupt.begin(); interrupt.work_begins()
class Slow:
    def __del__(self):
        print('ready', flush=True)
        for _ in range(600): time.sleep(0.05)
try:
    Slow()
    for _ in range(600): time.sleep(0.05)
except KeyboardInterrupt:
    print("told", flush=True)
"""
    assert signalled(["-c", code], signal.SIGINT) == (0, "told\n", "")


def test_an_error_in_a_destructor_is_shown_as_ever() -> None:
    code = """from yoloqat import interrupt
interrupt.begin(); interrupt.work_begins()
class Bad:
    def __del__(self):
        raise ValueError("bad")
Bad()
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (ran.returncode, "ValueError: bad" in ran.stderr) == (0, True)


def test_a_worker_that_is_ended_shows_nothing() -> None:
    code = """import multiprocessing, time
from yoloqat import interrupt
interrupt.begin(); interrupt.work_begins()
context = multiprocessing.get_context("fork")
begun = context.Event()
def work():
    begun.set()
    time.sleep(60)
worker = context.Process(target=work)
worker.start(); begun.wait(); worker.terminate(); worker.join()
print(worker.exitcode)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (ran.stdout, ran.stderr) == ("-15\n", "")


def test_signals_that_are_ignored_stay_so() -> None:
    code = """import signal
from yoloqat import interrupt
for number in (signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
for step in (interrupt.begin, interrupt.work_begins, lambda: interrupt.work_ended(0)):
    step()
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.raise_signal(number)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_while_torch_is_imported_a_signal_ends_with_one_line(tmp_path: Path, number: int) -> None:
    (tmp_path / "torch.py").write_text(f"import time\ntry:\n    {READY}except BaseException:\n    pass\n")
    (tmp_path / "main.py").write_text(
        f"{HEED}import runpy, sys\nsys.argv = ['yoloqat', 'eval', 'a.pt']\nrunpy.run_module('yoloqat', run_name='__main__')"
    )
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    assert signalled([str(tmp_path / "main.py")], number, PYTHONPATH=path) == (130, "", "yoloqat: interrupted\n")


def program(
    body: str, *, to: int | None = subprocess.PIPE, shell: str = "", **environment: str
) -> tuple[int, str, str]:
    """Run the program with a command line whose body is given, which costs no import of torch."""
    code = f"""import sys, types
cli = types.ModuleType("yoloqat.cli")
def main():
    {body}
cli.main = main
sys.modules["yoloqat.cli"] = cli
from yoloqat.__main__ import main
sys.exit(main())
"""
    line = [sys.executable, "-c", code]
    command = ["bash", "-c", f'"$@" {shell}; exit ${{PIPESTATUS[0]}}', "bash", *line] if shell else line
    ran = subprocess.run(command, stdout=to, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ | environment)
    return ran.returncode, ran.stdout, ran.stderr


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("return 0", 0),
        ("return 1", 1),
        ("sys.exit(2)", 2),
        ("sys.exit()", 0),
        ("sys.exit('text')", 2),
    ],
)
def test_the_exit_code_is_the_command_lines(body: str, code: int) -> None:
    assert program(body) == (code, "", "")


def test_an_interruption_between_the_work_and_the_end_is_told() -> None:
    assert program("raise KeyboardInterrupt") == (130, "", "yoloqat: interrupted\n")


def test_text_that_a_stream_cannot_encode_comes_out_escaped() -> None:
    body = r'sys.stderr.write("\u2501"); print("caf\xe9 \udcff"); return 0'
    assert program(body, PYTHONIOENCODING="ascii") == (0, "caf\\xe9 \\udcff\n", "\\u2501")


@pytest.mark.parametrize("code", [0, 1])
def test_a_reader_that_leaves_changes_nothing(code: int) -> None:
    body = f"import time; print('x', flush=True); time.sleep(0.5); print('y'); return {code}"
    assert program(body, shell="| head -c 1", PYTHONUNBUFFERED="") == (code, "x", "")


def test_a_full_disk_behind_standard_output_is_no_success() -> None:
    assert program("print('x'); return 0", shell="> /dev/full", PYTHONUNBUFFERED="") == (2, "", "")


def test_closed_streams_are_nowhere_and_no_file_takes_their_place(tmp_path: Path) -> None:
    body = "print('out'); sys.stderr.write('err'); f = open(sys.argv[-1], 'w'); f.write(str(f.fileno())); f.close(); return 0"
    file = tmp_path / "f"
    program(body.replace("sys.argv[-1]", repr(str(file))), shell="<&- >&- 2>&-")
    assert int(file.read_text()) > 2


class Full(io.StringIO):
    def flush(self) -> None:
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("method", ["print", "print_json"])
def test_output_that_cannot_be_written_is_one_line(method: str) -> None:
    screen = Screen(file=Full())
    with pytest.raises(OutputError, match=r"cannot write to standard output \(No space left on device\)"):
        getattr(screen, method)('{"a": 1}')


def test_progress_that_cannot_be_shown_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Full())
    with progress_bars(Screen(stderr=True)) as progress:
        progress("evaluate", 3, 3)


def test_a_screen_whose_reader_left_is_quiet() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        screen = Screen(file=stream)
        for _ in range(3):
            screen.print(Table("a"))
        assert screen.quiet
