"""Join the results of several directories into one page.

Every command draws the page of its own result, report.html beside result.json. This one reads finished results and writes
one page of all: float, quantized and engine of each side by side, then the parts of each. A directory without a result of
its own stands for all directly inside it that have one. Nothing is run, and no network is needed to look at the page.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from yoloqat.cli.command import LightCommand, Outcome
from yoloqat.cli.folder import RESULT, read_result
from yoloqat.errors import ConfigError
from yoloqat.progress import Progress
from yoloqat.provenance import file_sha256

_NAME = "report"
_HINT = "name directories that hold a result.json"


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "directories", type=Path, nargs="+", metavar="DIR", help="directory of results, or one that holds such"
    )


def _results(directory: Path) -> Iterator[dict[str, Any]]:
    """Yield the result of a directory, or those directly inside it.

    Raises:
        ConfigError: There is none, one cannot be read, or the one that is named is a page of several itself.
    """
    alone = os.path.exists(directory / RESULT)  # noqa: PTH110 - False for what is no possible path
    try:
        folders = [directory] if alone else sorted(path.parent for path in directory.glob(f"*/{RESULT}"))
    except OSError:  # not to be listed: told as holding none
        folders = []
    parts = [{"directory": str(folder)} | read_result(folder, _HINT) for folder in folders]
    if alone and parts[0]["command"] == _NAME:
        raise ConfigError(
            f"'{directory}' holds results that `yoloqat {_NAME}` joined",
            expected="results of other commands",
            hint=_HINT,
        )
    parts = [part for part in parts if part["command"] != _NAME]
    if not parts:
        raise ConfigError(f"'{directory}' holds no {RESULT}", expected="a directory of results", hint=_HINT)
    for part in parts:
        if not isinstance(part.get("results"), dict):
            raise ConfigError(
                f"{RESULT} in '{part['directory']}' has the results {json.dumps(part.get('results'))[:80]}",
                expected="an object of them",
                hint=_HINT,
            )
        yield part


def _run(args: argparse.Namespace, out: Path, progress: Progress) -> Outcome:
    del out, progress  # one reading of a few files
    from yoloqat.report.summary import summary_rows, summary_section

    parts = {Path(part["directory"]).resolve(): part for named in args.directories for part in _results(named)}
    reports = list(parts.values())
    results = {"summary": summary_rows(reports), "reports": reports}
    read = [Path(part["directory"]) / RESULT for part in reports]
    inputs = {"results": [{"path": str(path), "sha256": file_sha256(path)} for path in read]}
    settings = {"directories": [str(path) for path in args.directories]}
    return Outcome(settings, results, inputs, summary_section(reports).tables)


COMMAND = LightCommand(_NAME, __doc__ or "", _arguments, _run)
