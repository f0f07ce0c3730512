"""The line to type next: another command with all that this one was given and that one takes too."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from yoloqat.cli.command import Command, LightCommand
from yoloqat.cli.fields import option_name

_RUN = ("device", "threads")


def next_line(
    args: argparse.Namespace,
    command: Command | LightCommand,
    *files: str | Path,
    without: Sequence[str] = (),
    **given: Any,
) -> str:
    """Return the line that goes on with another command, quoted for a shell.

    Args:
        args: As parsed, with the ``parser`` of the command that ends.
        command: The one to go on with.
        files: What it works on, and options to write as they are.
        without: Names in ``args`` that mean something else there.
        given: Values by name, instead of those in ``args``; left out where they are the other command's defaults.

    Returns:
        The line. It has the options that were set to something else than their defaults and that the other command knows
        by the same name; its results go beside those of ``args``, where these have a directory of the user's choice.
    """
    parser = argparse.ArgumentParser(add_help=False)
    command.arguments(parser)
    words = ["yoloqat", command.name, *map(str, files)]
    for action in parser._actions:
        name = action.dest
        if not action.option_strings or (name not in given and (name in without or not hasattr(args, name))):
            continue
        value, usual = (
            (given[name], action.default) if name in given else (getattr(args, name), args.parser.get_default(name))
        )
        if value != usual:
            together = action.nargs is not None or isinstance(value, tuple)  # a tuple is a size, H W
            option = action.option_strings[-1] if value is False else option_name(action)
            words += _words(option, value, together=together)
    for name in _RUN:
        value = getattr(args, name)
        if value != args.parser.get_default(name):
            words += [f"--{name}", str(value).split(",")[0]]  # of several devices, the first
    if args.out is not None:
        words += ["--out", str(_beside(args.out, args.command, command.name))]
    return shlex.join(words)


def _words(option: str, value: Any, *, together: bool) -> Iterator[str]:
    if isinstance(value, bool):
        yield option
        return
    if isinstance(value, tuple) or (isinstance(value, list) and together):  # a list alone is an option that is repeated
        yield from (option, *map(str, value))
        return
    for entry in value if isinstance(value, list | tuple) else [value]:
        yield from [f"{option}={entry}"] if str(entry).startswith("-") else [option, str(entry)]


def _beside(out: Path, ended: str, following: str) -> Path:
    """Return a directory beside the former one: of the command's name where that was, else named after both."""
    if out.name in ("", ".."):
        return out / following
    return out.with_name(following if out.name == ended else f"{out.name}-{following}")
