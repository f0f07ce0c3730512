from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from yoloqat.cli import main


@dataclass(frozen=True)
class Ran:
    """What one run of a command left."""

    code: int
    out: str
    err: str
    directory: Path

    @property
    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.directory / "result.json").read_text())
        return found

    @property
    def files(self) -> list[str]:
        """Everything in the output directory, hidden or not."""
        return sorted(str(path.relative_to(self.directory)) for path in self.directory.rglob("*"))


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run a command with its results in a directory of the test's own; options that parse badly end like a process.

    Different lines without an ``out`` share one directory, and each begins it anew.
    """
    shared = tmp_path / "out"
    former: list[list[str]] = []

    def run(*arguments: object, out: Path = shared, threads: int = 1) -> Ran:
        capsys.readouterr()
        line = [str(argument) for argument in arguments]
        if "--threads" not in line:
            line += ["--threads", str(threads)]
        if out == shared:
            former.append(line)
            line = [*line, "--overwrite"] if line != former[0] and line != former[-2] else line
        try:
            code = main([*line, "--out", str(out)])
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err, out)

    return run
