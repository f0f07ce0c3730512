"""Running one command and reporting what it found."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from yoloqat.cli.command import Command, LightCommand, Outcome
from yoloqat.cli.terminal import progress_bars, shown_warnings
from yoloqat.config.checks import check_int
from yoloqat.errors import OutputError
from yoloqat.progress import Progress
from yoloqat.provenance import environment, finite, write_json

SCHEMA = {"name": "yoloqat/result", "version": 1}


def _check_out(out: Path) -> None:
    """Check that results can be written, before the work that leads to them.

    Raises:
        OutputError: The path, or the nearest that exists above it, is no directory or cannot be written to.
    """
    try:
        nearest = next(path for path in (out, *out.absolute().parents) if path.exists())
    except OSError as error:  # e.g. a name that is too long
        raise OutputError(
            f"cannot write to '{out}' ({error.strerror})",
            expected="a writable directory",
            mend="name another directory with --out",
        ) from error
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise OutputError(
            f"cannot write to '{out}' ('{nearest}' is {'not writable' if nearest.is_dir() else 'a file'})",
            expected="a writable directory",
            mend="name another directory with --out",
        )


@contextmanager
def _performed(command: Command | LightCommand, args: argparse.Namespace, progress: Progress) -> Iterator[_Performed]:
    """Do the work of a command; the run's finished parts are forgotten when the block ends well."""
    if isinstance(command, LightCommand):
        yield command.run(args, args.out, progress), "cpu", args.threads or os.cpu_count() or 1
        return
    from yoloqat.cli import options
    from yoloqat.detectors import torch_device, torch_threads
    from yoloqat.pipeline.run import Run

    with torch_threads(args.threads) as threads:
        names = args.device.split(",") if command.devices else [args.device]
        device = torch_device(names[0])
        args.device = ",".join([str(device), *names[1:]])
        run = Run(args.out, device, threads, progress)
        outcome = command.run(args, run)
        results = outcome.results | options.skipped_count(args)
        yield replace(outcome, results=results, notes=options.skipped_line(args)), str(device), threads
        run.forget_parts()


_Performed = tuple[Outcome, str, int]


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
    args.out = args.out or Path("runs") / command.name
    _check_out(args.out)
    if args.threads is not None:
        check_int("threads", args.threads, 1)
    errors = Console(stderr=True)
    with (
        progress_bars(errors) as progress,
        shown_warnings(errors, f"yoloqat {command.name}") as warned,
        _performed(command, args, progress) as (outcome, device, threads),
    ):
        results, lost = finite(outcome.results)  # hours of work must not end in a number that JSON does not have
        if lost:
            results["undefined"] = results.get("undefined", {}) | lost
        if warned:
            results["warnings"] = [*results.get("warnings", ()), *warned]
        provenance = environment(device=device, threads=threads, seed=getattr(args, "seed", None))
        result = {
            "schema": SCHEMA,
            "command": command.name,
            "config": outcome.config,
            "provenance": provenance | {"command_line": shlex.join(["yoloqat", *argv]), "inputs": outcome.inputs},
            "results": results,
        }
        write_json(args.out / "result.json", result)
    _show(outcome, result, args)
    if outcome.failed is not None:
        sys.stderr.write(f"yoloqat {command.name}: {outcome.failed}\n")
        return 1
    return 0


def _show(outcome: Outcome, result: dict[str, Any], args: argparse.Namespace) -> None:
    console = Console()
    if args.json == "-":
        console.print_json(data=result)
        return
    for table in outcome.tables:
        console.print(table)
    for line in outcome.notes:
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    written = ", ".join(str(args.out / name) for name in (*outcome.files, "result.json"))
    console.print(f"wrote {written}", highlight=False, soft_wrap=True)
    for line in outcome.next:
        console.print(f"next: {line}", highlight=False, soft_wrap=True, markup=False)
