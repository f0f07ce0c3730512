"""What a given engine does, beside what was predicted of its ONNX file; needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from yoloqat.engines.reading import Loss, losses, read_reports
from yoloqat.engines.reading.report import SHOWN_LAYERS
from yoloqat.errors import ConfigError, EngineError
from yoloqat.linting.fusion import DEFAULT_GPU, predict_file
from yoloqat.pipeline.engine_difference import difference, difference_table
from yoloqat.results import Result, Table, counted, number

SHOWN_LOSSES = 15


def report_engine(
    files: Sequence[Path],
    *,
    onnx: Path | None = None,
    gpu: str = DEFAULT_GPU,
    top: int = SHOWN_LAYERS,
    threads: int = 1,
) -> Result:
    """Read what tells of one engine and find what costs it time.

    Args:
        files: Logs, layer information, profiles or counters of one engine, or its OpenVINO folder.
        onnx: The ONNX file that the engine was built from, to compare with what is predicted of it; TensorRT alone.
        gpu: Whose least times stand beside the measured ones, a name in :data:`yoloqat.linting.fusion.GPUS`.
        top: Layers to show, the slowest; 0 shows all.
        threads: Threads of an OpenVINO folder, which is run.

    Raises:
        ModelError: A file cannot be read.
        EngineError: A file tells nothing of layers, or two are of different engines, or the ONNX file is of another.
        ConfigError: Files of two runtimes are named, or an ONNX file beside an engine of OpenVINO.
    """
    report = read_reports(files, threads=threads)
    found = losses(report.layers, report.runtime)
    results = report.results(found)
    tables: tuple[Table, ...] = (report.table(Path(files[0]).name, top), losses_table(found, typed=report.detailed))
    if onnx is not None:
        if report.runtime != "tensorrt":
            raise ConfigError(
                f"'{onnx}' is to be compared with '{files[0]}', an engine of {report.runtime}",
                expected="an engine of TensorRT, which is what is predicted",
                hint="leave `onnx` out",
            )
        results["prediction"] = difference(report.layers, predict_file(onnx).layers, gpu)
        if not results["prediction"]["items"]:
            raise EngineError(
                f"no layer of '{files[0]}' computes a node of '{onnx}', e.g. '{report.layers[0].name[:80]}'",
                expected="the file that the engine was built from",
                hint="name that file as `onnx`",
            )
        tables += (difference_table(results["prediction"]),)
    return Result(results, tables)


def losses_table(found: Sequence[Loss], *, typed: bool = True) -> Table:
    """Return what costs time as a table, the dearest first.

    Args:
        found: What costs time.
        typed: Whether any file told types; without them float layers cannot be seen.
    """
    rows = tuple((loss.rule, number(loss.ms, 4), f"{loss.message}; {loss.hint}") for loss in found[:SHOWN_LOSSES])
    hidden = len(found) - len(rows)
    rest = f"{counted(hidden, 'more loss')}es not shown" if hidden > 1 else "1 more loss not shown" if hidden else ""
    avoidable = sum(loss.avoidable for loss in found)
    title = f"what costs time: {counted(avoidable, 'place')} that another file would save"
    return Table(
        title,
        ("loss", "ms", "what, and the fix"),
        rows or (("none", "-", "nothing found" if typed else "no file tells types, so that little can be found"),),
        rest,
        left=(2,),
    )
