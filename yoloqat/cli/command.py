"""What a command is to the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yoloqat.progress import Progress

if TYPE_CHECKING:
    from yoloqat.pipeline.run import Run
    from yoloqat.results import Table


@dataclass(frozen=True)
class Outcome:
    """What a command found.

    Attributes:
        config: The settings it ran with, JSON-able.
        results: The keys that the design fixes for the command, and more.
        inputs: Hashes of the files it read.
        tables: What a person is shown.
        files: Files it wrote beside ``result.json``, relative to the output directory.
        next: What to type next, one line each.
        failed: A check that the user asked for did not pass; the command ends with code 1.
        notes: Lines shown below the tables.
    """

    config: dict[str, Any]
    results: dict[str, Any]
    inputs: dict[str, Any] = field(default_factory=dict)
    tables: Sequence[Table] = ()
    files: Sequence[str] = ()
    next: Sequence[str] = ()
    failed: str | None = None
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Command:
    """A command of the command line.

    Attributes:
        name: What the user types.
        doc: The docstring of the command's module: its first line is the short help, the whole the long one.
        arguments: Adds the command's own arguments to its parser.
        run: Does the work.
        devices: ``--device`` may name several; the run has the first.
        files: Every file or directory that it may write into the directory of results, beside ``result.json``.
        continues: Names of arguments that may change from run to run in one directory, because they go on with what is there.
    """

    name: str
    doc: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Run], Outcome]
    devices: bool = False
    files: Sequence[str] = ()
    continues: Sequence[str] = ()


@dataclass(frozen=True)
class LightCommand:
    """A command that runs no model, so that torch is not imported for it.

    Attributes:
        name: What the user types.
        doc: The docstring of the command's module, as for :class:`Command`.
        arguments: Adds the command's own arguments to its parser.
        run: Does the work; takes the arguments, the directory of the results and the progress.
        files: As for :class:`Command`.
        continues: As for :class:`Command`.
    """

    name: str
    doc: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Path, Progress], Outcome]
    files: Sequence[str] = ()
    continues: Sequence[str] = ()
