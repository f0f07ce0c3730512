"""Running one command and reporting what it found."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from yoloqat import interrupt
from yoloqat.cli.command import Command, LightCommand, Outcome
from yoloqat.cli.commands import COMMANDS
from yoloqat.cli.folder import REPORT, RESULT, SCHEMA, Settings, check_writable, claimed
from yoloqat.cli.terminal import Screen, progress_bars, shown, shown_line, shown_warnings
from yoloqat.config.checks import check_int
from yoloqat.errors import warn
from yoloqat.progress import Progress, silent
from yoloqat.provenance import environment, finite, write_json
from yoloqat.results import counted


@dataclass(frozen=True)
class _Work:
    """A command ready to run: what does it, on which device, by how many threads, and what tidies up and notes it after."""

    run: Callable[[], Outcome]
    device: str
    threads: int
    written: Callable[[], None] = lambda: None
    log: Callable[[Outcome, dict[str, Any]], None] = lambda _outcome, _results: None


@contextmanager
def _prepared(
    command: Command | LightCommand, args: argparse.Namespace, out: Path, progress: Progress
) -> Iterator[_Work]:
    if isinstance(command, LightCommand):
        yield _Work(lambda: command.run(args, out, progress), "cpu", args.threads or os.cpu_count() or 1)
        return
    from yoloqat.cli import options
    from yoloqat.detectors import torch_device, torch_threads
    from yoloqat.pipeline.loggers import log_result, opened_logger
    from yoloqat.pipeline.run import Run

    asked = getattr(args, "log", None)
    settings = {} if asked is None else Settings.of(args, command).values
    with torch_threads(args.threads) as threads, opened_logger(asked, out, command.name, settings) as logger:
        device = torch_device(args.device.split(",")[0] if command.devices else args.device)
        run = Run(out, device, threads, progress, logger)

        def work() -> Outcome:
            outcome = command.run(args, run)
            results = outcome.results | options.skipped_count(args)
            return replace(outcome, results=results, notes=[*outcome.notes, *options.skipped_line(args)])

        def log(outcome: Outcome, results: dict[str, Any]) -> None:
            if asked is not None:
                files = [out / name for name in (*outcome.files, RESULT)]
                try:
                    log_result(logger, command.name, results, outcome.tables, files)
                except Exception as error:  # of any of three libraries; the result is written
                    warn(f"the run is not whole in '{asked}': {type(error).__name__}: {error}")

        yield _Work(work, str(device), threads, run.forget_parts, log)


def execute(command: Command | LightCommand, args: argparse.Namespace, argv: Sequence[str]) -> int:
    """Run a command, write its result and show it.

    Args:
        command: What was typed.
        args: Its parsed arguments.
        argv: The arguments as they were typed, for the provenance.

    Returns:
        The exit code: 0, or 1 where a check that the user asked for did not pass.

    Raises:
        YoloqatError: The user's input is wrong.
    """
    out: Path = args.out or Path("runs") / command.name
    check_writable(out)
    interrupt.work_begins()
    if args.threads is not None:
        check_int("threads", args.threads, 1)
    errors = Screen(stderr=True)
    with (
        nullcontext(silent) if args.quiet else progress_bars(errors, times=args.verbose) as progress,
        shown_warnings(errors, f"yoloqat {command.name}") as warned,
        _prepared(command, args, out, progress) as work,
    ):
        asked = Settings.of(args, command)
        if args.verbose or (work.device != "cpu" and args.device == "auto"):
            errors.print(_about(work), highlight=False, markup=False, soft_wrap=True)
        with claimed(out, args, command, COMMANDS, asked):
            outcome = work.run()
            results, lost = finite(outcome.results)  # hours of work must not end in a number that JSON does not have
            if lost:
                results["undefined"] = results.get("undefined", {}) | lost
            if warned:
                results["warnings"] = [*results.get("warnings", ()), *warned]
            provenance = environment(device=work.device, threads=work.threads, seed=getattr(args, "seed", None))
            line = {"command_line": shlex.join(["yoloqat", *argv]), "arguments": dict(asked.values)}
            result = {
                "schema": SCHEMA,
                "command": command.name,
                "config": outcome.config,
                "provenance": provenance | line | {"inputs": outcome.inputs},
                "results": results,
            }
            write_json(out / RESULT, result)
            outcome = replace(outcome, files=[*outcome.files, *_drawn(result, out)])
            work.log(outcome, results)
        work.written()
    _show(outcome, result, args, out)
    if outcome.failed is not None:
        sys.stderr.write(f"yoloqat {command.name}: {outcome.failed}\n")
        return 1
    return 0


def _about(work: _Work) -> str:
    known = environment(device=work.device, threads=work.threads)
    versions = ", ".join(f"{name} {version}" for name, version in known["packages"].items())
    return f"yoloqat {known['yoloqat']} on {work.device}, {counted(work.threads, 'thread')} of {known['processor']}; {versions}"


def _drawn(result: dict[str, Any], out: Path) -> list[str]:
    """Write the page of a result and return its name; where that fails the result stands, and none of another stays."""
    try:
        from yoloqat.report.page import write_report

        write_report(result, out / REPORT)
    except Exception as error:
        with suppress(OSError):
            (out / REPORT).unlink()
        warn(f"{out / RESULT} is written, but {REPORT} beside it is not: {type(error).__name__}: {error}")
        return []
    return [REPORT]


def _show(outcome: Outcome, result: dict[str, Any], args: argparse.Namespace, out: Path) -> None:
    screen = Screen()
    if args.json == "-":
        screen.print_json(data=result, ensure_ascii=True)
        return
    if args.quiet:
        return
    for table in outcome.tables:
        screen.print(shown(table, screen.width))
    for line in outcome.notes:
        screen.print(shown_line(line), highlight=False, soft_wrap=True, markup=False)
    written = ", ".join(str(out / name) for name in (*outcome.files, RESULT))
    screen.print(f"wrote {written}", highlight=False, soft_wrap=True, markup=False)
    for line in outcome.next:
        screen.print(f"next: {line}", highlight=False, soft_wrap=True, markup=False)
