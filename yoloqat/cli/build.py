"""Build an INT8 engine from a QDQ ONNX file.

The engine is the one that the file was calibrated for (calibrate --target), OpenVINO where it names none. For OpenVINO it
writes DIR/model_openvino/ and says which convolutions really run in INT8 by the engine's own runtime model. With --data the
engine is scored, beside the float model it came from, and its noise d to that model and to QFloat is measured; --images DIR
alone, which needs no labels, measures d. --engine onnxruntime writes DIR/model_ort.onnx, an equivalent graph whose every
tensor between quantized layers holds integers, as ONNX Runtime's integer kernels want it; ranges that the file does not
hold are measured on calibration images. --engine tensorrt writes DIR/model.engine, on a machine with the GPU that will run
it, with FP16 where the file is not quantized; elsewhere it leaves DIR/model.onnx and DIR/build_engine.sh to run there.
--triton and --deepstream write what those servers need beside it.
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from yoloqat.cli import bench, options
from yoloqat.cli.command import Command, Outcome
from yoloqat.cli.fields import add_field
from yoloqat.cli.next_line import next_line
from yoloqat.cli.tensorrt import add_arguments, options_from
from yoloqat.cli.wording import option_of
from yoloqat.config import EvalConfig, to_dict
from yoloqat.deploy import describe, triton_config, write_deepstream, write_triton
from yoloqat.deploy.deepstream import PARSER, deepstream_config
from yoloqat.errors import with_options
from yoloqat.pipeline.build_half import HALF_ONNX
from yoloqat.pipeline.engine import ENGINE, ENGINES, OPENVINO, ORT_MODEL, BuildConfig, build_and_score
from yoloqat.pipeline.models import onnx_info, path_key
from yoloqat.pipeline.run import Run


def add_vnni(parser: argparse._ActionsContainer, config: type) -> None:
    """Add ``--vnni``, a field of ``config``."""
    text = "of openvino and onnxruntime: for processors with VNNI alone, without a guard against sums that saturate"
    add_field(parser, config, "vnni", text)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="ONNX", help="QDQ ONNX file (or a float one, to compare with)")
    add_field(
        parser,
        BuildConfig,
        "engine",
        "runtime to build for",
        choices=ENGINES,
        shown="the target that the file was calibrated for, openvino where it names none",
    )
    parser.add_argument(
        "--float", type=Path, metavar="MODEL", help="float .pt or .onnx to compare with (default: the file's source)"
    )
    options.add_data(parser)
    options.add_evaluation(parser)
    options.add_fidelity(parser)
    add_vnni(parser, BuildConfig)
    group = parser.add_argument_group("--engine openvino")
    add_field(
        group,
        BuildConfig,
        "split_above",
        "split a convolution in two where more than this share of its pairs of products can overflow on processors "
        "without VNNI; 0 makes every sum exact",
    )
    group = parser.add_argument_group("calibration of --engine onnxruntime")
    group.add_argument("--calib-images", type=int, default=32, metavar="N", help="images to measure on (default: 32)")
    group.add_argument(
        "--calib-images-dir", type=Path, metavar="DIR", help="directory to take them from (default: the train split)"
    )
    group.add_argument("--seed", type=int, default=0, metavar="N", help="chooses the images (default: 0)")
    add_arguments(parser)
    text = "of tensorrt: FP16 for what a QDQ file leaves in FP32, by a file model_fp16.onnx (default: yes)"
    parser.add_argument("--half", action=argparse.BooleanOptionalAction, default=True, help=text)
    group = parser.add_argument_group("deployment")
    group.add_argument("--triton", type=Path, metavar="DIR", help="add the engine to this model repository of Triton")
    group.add_argument("--deepstream", type=Path, metavar="DIR", help="write a configuration of DeepStream there")
    group.add_argument("--name", default="yolo", help="the model's name in Triton (default: %(default)s)")


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
    compared = options.offered_records(args, dataset)
    scoring = options.eval_config(args, info.imgsz or EvalConfig.imgsz) if compared else None
    config = BuildConfig(args.engine, args.split_above, options_from(args, run.out), half=args.half, vnni=args.vnni)
    _check_deployment(args)
    args.calib_select = "random"
    found = build_and_score(
        args.model,
        run.out,
        config,
        run=run,
        dataset=dataset,
        scoring=scoring,
        floating=args.float,
        records=lambda: options.calibration_records(args),
        compared=compared,
    )
    inputs = {"model": path_key(args.model), "data": options.dataset_input(dataset)}
    settings: dict[str, Any] = {"engine": found.engine, "evaluation": None if scoring is None else to_dict(scoring)}
    if found.engine == "openvino":
        settings |= {"split_above": args.split_above, "vnni": args.vnni}
    if found.engine == "tensorrt":
        settings |= {"half": args.half}
    floating = [] if found.floating is None else [found.floating]
    bench_line = next_line(args, bench.COMMAND, *floating, args.model, found.path, batch=info.batch or 1)
    lines = [bench_line, *found.lines, *_deploy(args, found.path)]
    notes = [] if found.advice is None else [with_options(found.advice, lambda name: option_of(name, args.parser))]
    return Outcome(settings, found.to_dict(), inputs, found.tables, [found.path.name], lines, notes=notes)


COMMAND = Command("build", __doc__ or "", _arguments, _run, files=(OPENVINO, ORT_MODEL, ENGINE, HALF_ONNX))
