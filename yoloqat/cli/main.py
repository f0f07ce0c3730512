"""Parsing of a command line; only the command that was typed is imported."""

from __future__ import annotations

import argparse
import difflib
import re
import shlex
import sys
import textwrap
import traceback
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import NoReturn

from yoloqat import interrupt
from yoloqat.cli.checks import out_of_range, unreachable
from yoloqat.cli.command import Command, LightCommand
from yoloqat.cli.commands import COMMANDS
from yoloqat.cli.config_file import OPTION, with_config
from yoloqat.cli.folder import directory
from yoloqat.cli.wording import worded
from yoloqat.errors import YoloqatError

COMPLETION = "completion"
_COMPLETION_HELP = "Print the completion script of a shell."
_ASSIGNMENT = re.compile(r"(?P<name>[a-z_]+)=(?P<value>.*)", re.DOTALL)


class _Paragraphs(argparse.HelpFormatter):
    """Help whose paragraphs are wrapped at the terminal's width."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        del indent
        parts = (" ".join(part.split()) for part in text.strip().split("\n\n"))
        return "\n\n".join(textwrap.fill(part, width, break_on_hyphens=False) for part in parts)


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line."""

    def error(self, message: str) -> NoReturn:
        """End with code 2 and one line that says what is wrong and where help is."""
        self.exit(2, f"{self.prog}: {' '.join(message.splitlines())}; see {self.prog} --help\n")

    @property
    def options(self) -> list[str]:
        """The long options."""
        return [name for action in self._actions for name in action.option_strings if name.startswith("--")]

    def parse_or_suggest(self, argv: Sequence[str]) -> argparse.Namespace:
        """Parse arguments; an unknown one ends with the option that was probably meant."""
        self._refuse_assignments(argv)
        args, unknown = self.parse_known_args(joined_sizes(argv))
        if unknown:
            name = unknown[0].partition("=")[0]
            near = _near(name, self.options) if name.startswith("-") else None
            self.error(f"unrecognized argument '{unknown[0]}'" + (f"; did you mean {near}?" if near else ""))
        problem = out_of_range(self._actions, args) or unreachable(self._actions, args)
        if problem is not None:
            self.error(problem)
        return args

    def _refuse_assignments(self, argv: Sequence[str]) -> None:
        """Refuse ``data=coco.yaml``, as Ultralytics' command line writes options."""
        for before, text in zip(("", *argv), argv, strict=False):
            found = None if before.startswith("-") else _ASSIGNMENT.fullmatch(text)
            if found is None or Path(text).exists():
                continue
            option = f"--{found['name'].replace('_', '-')}"
            near = option if option in self.options else _near(option, self.options)
            if found["name"] == "model":
                self.error(f"'{text}' is no option; write the model alone: {found['value']}")
            if near is not None:
                self.error(f"'{text}' is no option; did you mean {near} {found['value']}?")


def _near(name: str, known: Iterable[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)), None)


def _overview() -> _Parser:
    """Return the parser that knows the commands by name alone."""
    parser = _Parser(
        prog="yoloqat", description="INT8 for YOLO detectors, every step measured in COCO mAP and in noise."
    )
    parser.add_argument("--version", action="version", version=f"yoloqat {metadata.version('yoloqat')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for entry in COMMANDS.values():
        commands.add_parser(entry.name, help=entry.summary)
    commands.add_parser(COMPLETION, help=_COMPLETION_HELP)
    return parser


def _command_parser(command: Command | LightCommand) -> _Parser:
    parser = _Parser(
        prog=f"yoloqat {command.name}",
        description=command.doc,
        formatter_class=_Paragraphs,
    )
    command.arguments(parser)
    group = parser.add_argument_group("run")
    group.add_argument("--out", type=directory, metavar="DIR", help=f"where results go (default: runs/{command.name})")
    group.add_argument(
        "--device", default="auto", metavar="D", help="cpu, a CUDA index, or auto: a GPU where there is one (default)"
    )
    group.add_argument("--threads", type=int, metavar="N", help="threads inside an operator (default: all cores)")
    group.add_argument("--json", choices=["-"], help="with '-': print result.json instead of tables")
    group.add_argument("--debug", action="store_true", help="show the traceback of an error")
    group.add_argument("--overwrite", action="store_true", help="replace results of other settings that DIR holds")
    # replaced by the options of the file before the line is parsed; here for the help
    group.add_argument(OPTION, metavar="FILE", help="options from a YAML, or from the result.json of an earlier run")
    loudness = group.add_mutually_exclusive_group()
    loudness.add_argument("-q", "--quiet", action="store_true", help="show warnings and errors alone")
    loudness.add_argument("-v", "--verbose", action="store_true", help="also show versions, device and times of steps")
    parser.set_defaults(parser=parser, command=command.name)
    return parser


def _command_name(argv: Sequence[str]) -> str:
    """Return the command that was typed; help, the version and what is no command end here."""
    if argv and argv[0] in COMMANDS:
        return argv[0]
    parser = _overview()
    if argv and not argv[0].startswith("-"):
        near = _near(argv[0], (*COMMANDS, COMPLETION))
        hint = f"did you mean {near}?" if near else f"expected one of {', '.join((*COMMANDS, COMPLETION))}"
        parser.error(f"unknown command '{argv[0]}'; {hint}")
    if argv and argv[0] not in ("-h", "--help", "--version"):
        parser.error(f"'{argv[0]}' comes before the command; write yoloqat COMMAND {argv[0]} ...")
    if not argv:
        parser.exit(2, parser.format_help())
    parser.parse_args(argv)  # ends with the help or the version
    raise AssertionError(argv)


def joined_sizes(argv: Sequence[str]) -> list[str]:
    """Return arguments in which ``--imgsz H W`` is ``--imgsz H,W``: argparse would take the model's name for a third side."""
    joined: list[str] = []
    for text in argv:
        former = joined[-1] if joined else ""
        value = former if joined[-2:-1] == ["--imgsz"] else former.partition("--imgsz=")[2]
        if value.isdecimal() and text.isdecimal():
            joined[-1] = f"{former},{text}"
        else:
            joined.append(text)
    return joined


def parsed(argv: Sequence[str]) -> tuple[Command | LightCommand, argparse.Namespace]:
    """Return the command that was typed, imported, and its arguments; a mistake ends the process.

    Args:
        argv: Arguments after the program's name.
    """
    command = COMMANDS[_command_name(argv)].load()
    parser = _command_parser(command)
    return command, parser.parse_or_suggest(with_config(argv[1:], parser, command.name))


def _completion(argv: Sequence[str]) -> int:
    """Print the completion script of a shell."""
    from yoloqat.cli.completion import SHELLS, completion_script

    parser = _Parser(prog="yoloqat completion", description=_COMPLETION_HELP)
    parser.add_argument("shell", choices=SHELLS)
    shell = parser.parse_args(argv).shell
    parsers = {name: _command_parser(entry.load()) for name, entry in COMMANDS.items()} | {COMPLETION: parser}
    summaries = {name: entry.summary for name, entry in COMMANDS.items()} | {COMPLETION: _COMPLETION_HELP}
    sys.stdout.write(completion_script(parsers, summaries, shell))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: Arguments after the program's name; None takes the process's own.

    Returns:
        0 done, 1 a check failed, 2 the user's input is wrong, 130 interrupted.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:1] == [COMPLETION]:
        return _completion(argv[1:])
    name = _command_name(argv)
    nul = next((word for word in argv if "\0" in word), None)
    if nul is not None:
        _overview().error(f"argument {nul[:200]!r} holds a NUL character; expected text; leave it out")
    debug = "--debug" in argv
    try:
        command, args = parsed(argv)
        from yoloqat.cli.execute import execute

        return execute(command, args, argv)
    except YoloqatError as error:
        if debug:
            traceback.print_exc()
        sys.stderr.write(f"yoloqat {name}: {worded(error, _command_parser(COMMANDS[name].load()))}\n")
        return error.exit_code
    except KeyboardInterrupt:
        line = shlex.join(["yoloqat", *(word for word in argv if word != "--overwrite")])
        sys.stderr.write(f"yoloqat {name}: interrupted; finished parts are kept, go on with: {line}\n")
        return interrupt.CODE
