"""What a given engine does, beside what was predicted of its ONNX file; needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from yoloqat.engines.reading import Loss, losses, read_reports
from yoloqat.engines.reading.report import SHOWN_LAYERS
from yoloqat.results import Result, Table, counted, number

SHOWN_LOSSES = 15


def report_engine(files: Sequence[Path], *, top: int = SHOWN_LAYERS, threads: int = 1) -> Result:
    """Read what tells of one engine and find what costs it time.

    Args:
        files: Logs, layer information, profiles or counters of one engine, or its OpenVINO folder.
        top: Layers to show, the slowest; 0 shows all.
        threads: Threads of an OpenVINO folder, which is run.

    Raises:
        ModelError: A file cannot be read.
        EngineError: A file tells nothing of layers, or two are of different engines.
        ConfigError: Files of two runtimes are named.
    """
    report = read_reports(files, threads=threads)
    found = losses(report.layers, report.runtime)
    tables = (report.table(Path(files[0]).name, top), losses_table(found))
    return Result(report.results(found), tables)


def losses_table(found: Sequence[Loss]) -> Table:
    """Return what costs time as a table, the dearest first."""
    rows = tuple((loss.rule, number(loss.ms, 4), f"{loss.message}; {loss.hint}") for loss in found[:SHOWN_LOSSES])
    hidden = len(found) - len(rows)
    rest = f"{counted(hidden, 'more loss')}es not shown" if hidden > 1 else "1 more loss not shown" if hidden else ""
    avoidable = sum(loss.avoidable for loss in found)
    title = f"what costs time: {counted(avoidable, 'place')} that another file would save"
    return Table(title, ("loss", "ms", "what, and the fix"), rows or (("none", "-", "nothing found"),), rest, left=(2,))
