"""Build an INT8 engine from a QDQ ONNX file.

Writes DIR/model_openvino/ and says which convolutions really run in INT8 by the engine's own runtime model. With --data
the engine is scored, beside the float model it came from. --engine onnxruntime writes DIR/model_ort.onnx, a twin whose
every tensor between quantized layers has codes, as ONNX Runtime's integer kernels want it; the ranges that the file does
not tell are measured on calibration images. --engine tensorrt writes DIR/model.engine, on a machine with the GPU that
will run it; elsewhere it leaves DIR/model.onnx and tells what to type there. --triton and --deepstream write what those
servers need beside it.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yoloqat.cli import bench, options
from yoloqat.cli.command import Command, Outcome
from yoloqat.cli.next_line import next_line
from yoloqat.cli.terminal import interval, number, table
from yoloqat.config import EvalConfig, to_dict
from yoloqat.deploy import describe, triton_config, write_deepstream, write_triton
from yoloqat.deploy.deepstream import PARSER, deepstream_config
from yoloqat.engines import OnnxPredictor, OpenVINOPredictor, build_openvino
from yoloqat.engines.dispatch import cuda_index
from yoloqat.engines.openvino import SPLIT_ABOVE
from yoloqat.engines.tensorrt import TensorRTPredictor, engine_results, load_cuda, load_tensorrt
from yoloqat.engines.tensorrt.arguments import add_arguments, options_from
from yoloqat.pipeline.build import build_results, float_source, score_engine
from yoloqat.pipeline.build_ort import build_twin, twin_results
from yoloqat.pipeline.build_tensorrt import build_engine_file
from yoloqat.pipeline.models import check_scoring, onnx_info, path_key
from yoloqat.pipeline.run import Run
from yoloqat.predictor import Predictor

OPENVINO, TWIN, ENGINE = "model_openvino", "model_ort.onnx", "model.engine"


@dataclass(frozen=True)
class Built:
    """What an engine's builder gives.

    Attributes:
        file: Name of the engine's file or directory.
        predictor: The engine, loaded; None where nothing is scored and loading needs more than building.
        results: The command's results so far.
        rows: What is said of it beside what all engines have.
        lines: What else may be typed.
    """

    file: str
    predictor: Predictor | None
    results: dict[str, Any]
    rows: Sequence[tuple[str, str]]
    lines: Sequence[str] = ()


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="ONNX", help="QDQ ONNX file (or a float one, to compare with)")
    parser.add_argument(
        "--engine",
        default="openvino",
        choices=["openvino", "onnxruntime", "tensorrt"],
        help="runtime to build for (default: %(default)s)",
    )
    parser.add_argument(
        "--float", type=Path, metavar="PT", help="float model to compare with (default: the file's source)"
    )
    options.add_data(parser)
    options.add_evaluation(parser)
    group = parser.add_argument_group("--engine openvino")
    group.add_argument(
        "--split-above",
        type=float,
        default=SPLIT_ABOVE,
        metavar="F",
        help="split a convolution in two where more than this share of its pairs of products can overflow on processors "
        "without VNNI; 0 makes every sum exact (default: %(default)s)",
    )
    group = parser.add_argument_group("calibration of --engine onnxruntime")
    group.add_argument("--calib-images", type=int, default=32, metavar="N", help="images to measure on (default: 32)")
    group.add_argument(
        "--calib-images-dir", type=Path, metavar="DIR", help="directory to take them from (default: the train split)"
    )
    group.add_argument("--seed", type=int, default=0, metavar="N", help="chooses the images (default: 0)")
    add_arguments(parser)
    group = parser.add_argument_group("deployment")
    group.add_argument("--triton", type=Path, metavar="DIR", help="add the engine to this model repository of Triton")
    group.add_argument("--deepstream", type=Path, metavar="DIR", help="write a configuration of DeepStream there")
    group.add_argument("--name", default="yolo", help="the model's name in Triton (default: %(default)s)")


def _build_openvino(args: argparse.Namespace, run: Run) -> Built:
    built = build_openvino(args.model, run.out / OPENVINO, threads=run.threads, split_above=args.split_above)
    results = build_results(built)
    rows = []
    if built.saturates and results["quantized_convolutions"]:
        rows.append(("this processor's 8-bit sums saturate", "guarded against"))
    if built.split:
        rows.append(("layers split in two against overflow", str(len(built.split))))
    return Built(OPENVINO, OpenVINOPredictor(run.out / OPENVINO, threads=run.threads), results, rows)


def _build_onnxruntime(args: argparse.Namespace, run: Run) -> Built:
    args.calib_select = "random"
    records = options.calibration_records(args)
    built = build_twin(args.model, run.out / TWIN, records, run=run)
    rows = [("ranges measured", f"{len(built.measured)} on {len(records)} images")]
    return Built(TWIN, OnnxPredictor(run.out / TWIN, threads=run.threads), twin_results(built), rows)


def _load_both() -> Any:
    """Import TensorRT and what its runtime needs too, so that a missing package is told before the build."""
    load_cuda()
    return load_tensorrt()


def _build_tensorrt(args: argparse.Namespace, run: Run) -> Built:
    scored = args.data is not None or args.images is not None
    settings = options_from(args, run.out)
    load = _load_both if scored else load_tensorrt
    built = build_engine_file(args.model, run.out / ENGINE, settings, run=run, load=load)
    rows = [("reformats added", str(len(built.layers.reformats))), ("TensorRT", built.version)]
    rows += [("shapes", f"{built.profile.low} to {built.profile.high}")] if built.profile.dynamic else []
    lines = [f"{line}  (the same plan by TensorRT {major})" for major, line in built.trtexec.items()]
    predictor = TensorRTPredictor(run.out / ENGINE, device=cuda_index(str(run.device))) if scored else None
    return Built(ENGINE, predictor, engine_results(built), rows, lines)


def _check_deployment(args: argparse.Namespace) -> None:
    """Tell what servers cannot take before the work."""
    if args.triton is not None:
        triton_config(describe(args.model, args.model), name=args.name)
    if args.deepstream is not None:
        deepstream_config(describe(args.model, args.model))


def _deploy(args: argparse.Namespace, path: Path) -> list[str]:
    """Write what servers need and return a line on each."""
    if args.triton is None and args.deepstream is None:
        return []
    artifact, lines = describe(path, args.model), []
    if args.triton is not None:
        lines.append(shlex.join(["tritonserver", "--model-repository", str(args.triton)]))
        write_triton(artifact, args.triton, name=args.name)
    if args.deepstream is not None:
        source = describe(args.model, args.model) if artifact.kind == "openvino" else artifact
        lines.append(f"compile the box parser as {write_deepstream(source, args.deepstream).parent / PARSER} says")
    return lines


def _run(args: argparse.Namespace, run: Run) -> Outcome:
    dataset = options.dataset(args)
    info = onnx_info(args.model)
    config = options.eval_config(args, info.imgsz or 640) if dataset is not None else EvalConfig()
    if dataset is not None:
        check_scoring(info, dataset, config)
    floating = float_source(args.model, args.float)
    _check_deployment(args)
    built = BUILDERS[args.engine](args, run)
    path, results = run.out / built.file, built.results
    share = results["int8_mac_share"]
    shown = table(f"{path}", "what", "value")
    shown.add_row("convolutions in INT8", f"{results['int8_convolutions']} of {results['convolutions']}")
    shown.add_row("quantized convolutions", str(results["quantized_convolutions"]))
    shown.add_row("quantized multiply-adds in INT8", "-" if share is None else f"{100 * share:.1f} %")
    for row in built.rows:
        shown.add_row(*row)
    if dataset is not None and built.predictor is not None:
        source = path if args.engine == "onnxruntime" else args.model  # a twin's numbers depend on its calibration
        engine = f"{args.engine}, {args.split_above}" if args.engine == "openvino" else args.engine
        qfloat = args.model if results["quantized_convolutions"] else None
        found = score_engine(built.predictor, source, floating, dataset, config, run=run, engine=engine, qfloat=qfloat)
        results |= found
        shown.add_row("mAP50-95 engine", number(found["map_engine"]))
        shown.caption = "\n".join(found["warnings"])
        if found["drop"] is not None:
            shown.add_row("mAP50-95 float", number(found["map_float"]))
            shown.add_row("drop, 95 % interval", f"{found['drop']:+.4f} {interval(found['drop_ci95'])}")
        if found["qfloat_difference"] is not None:
            shown.add_row("mAP50-95 QFloat (the file, as written)", number(found["map_qfloat"]))
            gap = f"{found['qfloat_difference']:+.4f} {interval(found['qfloat_difference_ci95'])}"
            shown.add_row("QFloat minus engine, 95 % interval", gap)
    inputs = {"model": path_key(args.model), "data": options.dataset_input(dataset)}
    settings: dict[str, Any] = {"engine": args.engine, "evaluation": to_dict(config) if dataset is not None else None}
    if args.engine == "openvino":
        settings["split_above"] = args.split_above
    bench_line = next_line(args, bench.COMMAND, args.model, path, batch=info.batch or 1)
    lines = [bench_line, *built.lines, *_deploy(args, path)]
    return Outcome(settings, results, inputs, [shown], [built.file], lines)


BUILDERS: dict[str, Callable[[argparse.Namespace, Run], Built]] = {
    "openvino": _build_openvino,
    "onnxruntime": _build_onnxruntime,
    "tensorrt": _build_tensorrt,
}


COMMAND = Command("build", __doc__ or "", _arguments, _run, files=(OPENVINO, TWIN, ENGINE))
