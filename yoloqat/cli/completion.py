"""The completion scripts of shells, made from the commands' own parsers."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import shtab

SHELLS = tuple(shtab.SUPPORTED_SHELLS)


def completion_script(parsers: Mapping[str, argparse.ArgumentParser], summaries: Mapping[str, str], shell: str) -> str:
    """Return the script that completes commands and options.

    Args:
        parsers: By command.
        summaries: Their short help, by command.
        shell: One of :data:`SHELLS`.
    """
    whole = argparse.ArgumentParser(prog="yoloqat")
    commands = whole.add_subparsers()
    for name, parser in parsers.items():
        commands.add_parser(name, parents=[parser], add_help=False, help=summaries[name])
    script: str = shtab.complete(whole, shell)
    return script
