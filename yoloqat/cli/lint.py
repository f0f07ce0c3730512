"""Find what is wrong with a QDQ ONNX file, without a GPU.

Takes any tool's file. Errors are what TensorRT refuses or computes otherwise than the file says, warnings what makes the
engine slower or less accurate than it could be; each comes with node names and the hint. Exit code 1 when there are
errors, with --strict also when there are warnings. The rules, their reasons and sources: docs/lint.md.

--explain also predicts the engine that TensorRT builds from the file: which nodes fuse, in what precision each layer reads and
writes, which Q, DQ and copies run alone and what they cost, beside the same model in FP16 and with implicit INT8. Times are the
least that a GPU's peak rates allow: they rank files, they are no latencies. docs/tensorrt.md has the rules and their sources.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from yoloqat.cli.command import LightCommand, Outcome
from yoloqat.linting import TRT_VERSIONS, findings_table, lint_file, lint_results, to_sarif
from yoloqat.linting.fusion import DEFAULT_GPU, GPUS, predict_file, prediction_tables
from yoloqat.progress import Progress
from yoloqat.provenance import file_sha256, write_json
from yoloqat.results import counted


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="ONNX file of any tool")
    parser.add_argument("--sarif", type=Path, metavar="FILE", help="also write the findings as SARIF 2.1.0, for CI")
    parser.add_argument("--strict", action="store_true", help="let warnings fail too")
    parser.add_argument("--explain", action="store_true", help="also predict the layers of TensorRT's engine")
    parser.add_argument(
        "--gpu",
        choices=tuple(GPUS),
        default=DEFAULT_GPU,
        help="with --explain: whose peak rates count (default: %(default)s)",
    )
    versions = [version.name for version in TRT_VERSIONS]
    parser.add_argument(
        "--trt-version",
        choices=versions,
        default=versions[0],
        help="the TensorRT that will read the file (default: %(default)s)",
    )
    # the name of 0.1.0
    parser.add_argument("--target", dest="trt_version", choices=versions, help=argparse.SUPPRESS)


def _failed(counts: dict[str, Any], *, strict: bool) -> str | None:
    errors, warnings = counts["errors"], counts["warnings"]
    if errors or (strict and warnings):
        found = f"{counted(errors, 'error')} and {counted(warnings, 'warning')}"
        return f"{found}; expected none{'' if strict else ' of the errors'}; see 'findings'"
    return None


def _run(args: argparse.Namespace, out: Path, progress: Progress) -> Outcome:
    del out, progress  # one short reading of a file
    version = next(version for version in TRT_VERSIONS if version.name == args.trt_version)
    findings = lint_file(args.model, trt_version=version)
    results = lint_results(findings)
    if args.sarif is not None:
        write_json(args.sarif, to_sarif(findings, args.model))
    settings = {"trt_version": version.name, "strict": args.strict} | ({"explain": args.gpu} if args.explain else {})
    tables = [findings_table(str(args.model), results)]
    if args.explain:
        prediction = predict_file(args.model)
        results |= prediction.to_dict()
        tables += prediction_tables(args.model.name, prediction, args.gpu)
    inputs = {"model": {"path": str(args.model), "sha256": file_sha256(args.model)}}
    failed = _failed(results, strict=args.strict)
    files = [] if args.sarif is None else [str(args.sarif.absolute())]
    return Outcome(settings, results, inputs, tables, files, failed=failed)


COMMAND = LightCommand("lint", __doc__ or "", _arguments, _run)
