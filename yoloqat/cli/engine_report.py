"""Show what a given engine really does: the precision and time of its layers, and what costs time.

Takes what TensorRT or OpenVINO wrote of one engine, whatever tool built it: a log of trtexec --verbose, the JSON of its
--exportLayerInfo and --exportProfile (TensorRT 8.6, 10 and 11), counters of OpenVINO's benchmark_app (-report_type, CSV or JSON),
or an OpenVINO folder, which is run. Types are told where the engine was built with --profilingVerbosity=detailed or the log is
verbose, times where it was profiled (--dumpProfile, --exportProfile); several files of one engine are joined.

Each loss comes with the Q, DQ or float layer that causes it and what to do: docs/engines.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from yoloqat.cli.command import LightCommand, Outcome
from yoloqat.linting.fusion import DEFAULT_GPU, GPUS
from yoloqat.progress import Progress
from yoloqat.provenance import file_sha256


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", type=Path, nargs="+", metavar="FILE", help="log, JSON, CSV or OpenVINO folder of one engine"
    )
    parser.add_argument(
        "--onnx",
        type=Path,
        metavar="FILE",
        help="the ONNX file it was built from: also show what differs from its prediction",
    )
    parser.add_argument(
        "--gpu",
        choices=tuple(GPUS),
        default=DEFAULT_GPU,
        help="with --onnx: whose least times are kept beside the measured ones (default: %(default)s)",
    )
    parser.add_argument(
        "--layers", type=int, default=25, metavar="N", help="layers to show, the slowest; 0 for all (default: 25)"
    )


def _run(args: argparse.Namespace, out: Path, progress: Progress) -> Outcome:
    del out, progress  # one reading of a few files
    from yoloqat.pipeline.engine_report import report_engine

    found = report_engine(args.files, onnx=args.onnx, gpu=args.gpu, top=args.layers, threads=args.threads or 1)
    inputs: dict[str, Any] = {"files": [_key(path) for path in args.files]}
    if args.onnx is not None:
        inputs["onnx"] = _key(args.onnx)
    return Outcome({"layers": args.layers, "gpu": args.gpu}, found.to_dict(), inputs, found.tables)


def _key(path: Path) -> dict[str, str]:
    return {"path": str(path)} | ({"sha256": file_sha256(path)} if path.is_file() else {})


COMMAND = LightCommand("engine-report", __doc__ or "", _arguments, _run)
