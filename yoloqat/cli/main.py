"""Parsing, running and reporting of one command."""

from __future__ import annotations

import argparse
import shlex
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from yoloqat import interrupt
from yoloqat.cli import (
    bench,
    build,
    calibrate,
    compare,
    data,
    demo,
    evaluate,
    export,
    finetune,
    inspect,
    lint,
    sensitivity,
)
from yoloqat.cli.command import Command, Outcome
from yoloqat.cli.folder import RESULT, SCHEMA, check_writable, claimed, directory, settings
from yoloqat.cli.terminal import Screen, progress_bars
from yoloqat.config.checks import check_int
from yoloqat.detectors import torch_device, torch_threads
from yoloqat.errors import YoloqatError
from yoloqat.pipeline.run import Run
from yoloqat.provenance import environment, write_json

COMMANDS: tuple[Command, ...] = (
    demo.COMMAND,
    inspect.COMMAND,
    evaluate.COMMAND,
    calibrate.COMMAND,
    compare.COMMAND,
    sensitivity.COMMAND,
    finetune.COMMAND,
    export.COMMAND,
    lint.COMMAND,
    build.COMMAND,
    bench.COMMAND,
    data.COMMAND,
)


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line."""

    def error(self, message: str) -> NoReturn:
        """End with code 2 and one line that says what is wrong and where help is."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="yoloqat", description="INT8 for YOLO detectors, every claim a measured COCO mAP.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    for command in COMMANDS:
        sub = commands.add_parser(
            command.name,
            help=command.doc.strip().splitlines()[0],
            description=command.doc,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.arguments(sub)
        group = sub.add_argument_group("run")
        group.add_argument(
            "--out", type=directory, metavar="DIR", help=f"where results go (default: runs/{command.name})"
        )
        group.add_argument("--device", default="cpu", metavar="D", help="cpu or a CUDA index (default: cpu)")
        group.add_argument("--threads", type=int, metavar="N", help="threads inside an operator (default: all cores)")
        group.add_argument("--json", choices=["-"], help="with '-': print result.json instead of tables")
        group.add_argument("--debug", action="store_true", help="show the traceback of an error")
        group.add_argument("--overwrite", action="store_true", help="replace results of other settings that DIR holds")
        sub.set_defaults(parser=sub)
    return parser


def _result(
    args: argparse.Namespace, outcome: Outcome, run: Run, argv: Sequence[str], asked: dict[str, Any]
) -> dict[str, Any]:
    provenance = environment(device=str(run.device), threads=run.threads, seed=getattr(args, "seed", None))
    line = {"command_line": shlex.join(["yoloqat", *argv]), "arguments": asked}
    return {
        "schema": SCHEMA,
        "command": args.command,
        "config": outcome.config,
        "provenance": provenance | line | {"inputs": outcome.inputs},
        "results": outcome.results,
    }


def _run(command: Command, args: argparse.Namespace, argv: Sequence[str]) -> int:
    out: Path = args.out or Path("runs") / command.name
    check_writable(out)
    interrupt.work_begins()
    if args.threads is not None:
        check_int("threads", args.threads, 1)
    errors = Screen(stderr=True)
    with torch_threads(args.threads) as threads, progress_bars(errors) as progress:
        device = args.device.split(",")[0] if command.devices else args.device
        run = Run(out, torch_device(device), threads, progress)
        asked = settings(args, command)
        with claimed(out, args, command, COMMANDS):
            outcome = command.run(args, run)
            result = _result(args, outcome, run, argv, asked)
            write_json(out / RESULT, result)
        run.forget_parts()
    console = Screen()
    if args.json == "-":
        console.print_json(data=result, ensure_ascii=True)
    else:
        for table in outcome.tables:
            console.print(table)
        written = ", ".join(str(out / name) for name in (*outcome.files, RESULT))
        console.print(f"wrote {written}", highlight=False, soft_wrap=True)
        for line in outcome.next:
            console.print(f"next: {line}", highlight=False, soft_wrap=True, markup=False)
    if outcome.failed is not None:
        sys.stderr.write(f"yoloqat {command.name}: {outcome.failed}\n")
        return 1
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: Arguments after the program's name; None takes the process's own.

    Returns:
        0 done, 1 a check failed, 2 the user's input is wrong, 130 interrupted.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = _parser()
    nul = next((word for word in argv if "\0" in word), None)
    if nul is not None:
        parser.error(f"argument {nul[:200]!r} holds a NUL character; expected text; leave it out")
    args = parser.parse_args(argv)
    command = next(command for command in COMMANDS if command.name == args.command)
    try:
        return _run(command, args, argv)
    except YoloqatError as error:
        if args.debug:
            traceback.print_exc()
        sys.stderr.write(f"yoloqat {command.name}: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        line = shlex.join(["yoloqat", *(word for word in argv if word != "--overwrite")])
        sys.stderr.write(f"yoloqat {command.name}: interrupted; finished parts are kept, go on with: {line}\n")
        return interrupt.CODE
