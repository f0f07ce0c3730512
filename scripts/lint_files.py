"""Lint every ONNX file that globs match, and write all findings as one SARIF log: what action.yml runs.

    python scripts/lint_files.py "models/**/*.onnx" "!models/old/*" --sarif yoloqat.sarif --fail-on error

A glob behind `!` takes files away again. A file whose name holds blanks or brackets stands alone in an argument or a line. Runs
nothing of a file; needs yoloqat, onnx and NumPy, neither torch nor a GPU. Exit codes: 0; 1 where a file has findings of the level
of --fail-on; 2 where a file cannot be read, no file matches, or the log cannot be written.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from glob import escape
from pathlib import Path
from typing import Any

from yoloqat.errors import YoloqatError
from yoloqat.linting import TRT_VERSIONS, Finding, findings_table, lint_file, lint_results, to_sarif
from yoloqat.provenance import write_json
from yoloqat.results import counted

FAIL_ON = {"error": ("errors",), "warning": ("errors", "warnings"), "never": ()}


def matched(globs: Sequence[str], root: Path) -> list[Path]:
    """Return the files below a directory that globs match, relative to it, each once and by name.

    Args:
        globs: Relative to ``root``; those behind ``!`` take files away.
        root: The directory.
    """
    found: set[Path] = set()
    for glob in globs:
        files = {path.relative_to(root) for path in root.glob(glob.removeprefix("!")) if path.is_file()}
        found = found - files if glob.startswith("!") else found | files
    return sorted(found)


def split(text: str) -> list[str]:
    """Return the globs of an argument, with blanks or line ends between; a line that names a file is that file."""
    return [
        glob
        for line in map(str.strip, text.splitlines())
        for glob in ([_literal(line)] if Path(line.removeprefix("!")).is_file() else line.split())
    ]


def _literal(name: str) -> str:
    sign = "!" if name.startswith("!") else ""
    return sign + escape(name.removeprefix("!"))


def joined(findings: Sequence[tuple[Path, Sequence[Finding]]]) -> dict[str, Any]:
    """Return the findings of several files as a log with one run: code hosts refuse two runs of one tool."""
    logs = [to_sarif(found, path) for path, found in findings]
    logs[0]["runs"][0]["results"] = [result for log in logs for result in log["runs"][0]["results"]]
    return logs[0]


def run(argv: Sequence[str] | None = None) -> int:
    """Lint, print a table for each file with findings, and write the log."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("globs", nargs="+", metavar="GLOB", help="ONNX files, relative to the current directory")
    parser.add_argument("--sarif", type=Path, required=True, metavar="FILE", help="where the log goes")
    parser.add_argument("--fail-on", choices=FAIL_ON, default="error", help="level that fails (default: %(default)s)")
    versions = {version.name: version for version in TRT_VERSIONS}
    parser.add_argument("--trt-version", choices=versions, default=TRT_VERSIONS[0].name)
    args = parser.parse_args(argv)
    globs = [glob for text in args.globs for glob in split(text)]
    try:
        paths = matched(globs, Path())
    except (NotImplementedError, ValueError) as error:  # an absolute or an empty glob
        sys.stderr.write(
            f"lint: the globs are {args.globs} ({error}); expected relative ones; write e.g. models/*.onnx\n"
        )
        return 2
    if not paths:
        place = Path.cwd()
        sys.stderr.write(
            f"lint: no file in '{place}' matches '{' '.join(globs)}'; expected ONNX files; change the globs\n"
        )
        return 2
    findings, status = [], 0
    for path in paths:
        try:
            found = lint_file(path, trt_version=versions[args.trt_version])
        except YoloqatError as error:
            sys.stderr.write(f"lint: {error}\n")
            status = 2
            continue
        findings.append((path, found))
        counts = lint_results(found)
        print(findings_table(path.as_posix(), counts))
        if not status and any(counts[level] for level in FAIL_ON[args.fail_on]):
            status = 1
    if findings:
        try:
            write_json(args.sarif, joined(findings))
        except YoloqatError as error:
            sys.stderr.write(f"lint: {error}\n")
            return 2
        print(f"{counted(len(findings), 'file')}; wrote {args.sarif}")
    return status


if __name__ == "__main__":
    sys.exit(run())
