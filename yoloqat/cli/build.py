"""Build an INT8 engine from a QDQ ONNX file.

Writes DIR/model_openvino/ and says which convolutions really run in INT8 by the engine's own runtime model. With --data
the engine is scored, beside the float model it came from.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from yoloqat.cli import options
from yoloqat.cli.command import Command, Outcome
from yoloqat.cli.terminal import interval, number, table
from yoloqat.config import EvalConfig, to_dict
from yoloqat.engines import OpenVINOPredictor, build_openvino
from yoloqat.pipeline.build import build_results, float_source, score_engine
from yoloqat.pipeline.models import check_scoring, onnx_info, path_key
from yoloqat.pipeline.run import Run

OPENVINO = "model_openvino"


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="ONNX", help="QDQ ONNX file (or a float one, to compare with)")
    parser.add_argument(
        "--engine", default="openvino", choices=["openvino"], help="runtime to build for (default: %(default)s)"
    )
    parser.add_argument(
        "--float", type=Path, metavar="PT", help="float model to compare with (default: the file's source)"
    )
    options.add_data(parser, required=False)
    options.add_evaluation(parser)


def _run(args: argparse.Namespace, run: Run) -> Outcome:
    dataset = options.dataset(args)
    info = onnx_info(args.model)
    config = options.eval_config(args, max(info.imgsz) if info.imgsz else 640) if dataset is not None else EvalConfig()
    if dataset is not None:
        check_scoring(info, dataset, config)
    floating = float_source(args.model, args.float)
    directory = run.out / OPENVINO
    built = build_openvino(args.model, directory, threads=run.threads)
    predictor = OpenVINOPredictor(directory, threads=run.threads)
    results = build_results(built)
    share = results["int8_mac_share"]
    shown = table(f"{directory}", "what", "value")
    shown.add_row("convolutions in INT8", f"{results['int8_convolutions']} of {results['convolutions']}")
    shown.add_row("quantized convolutions", str(results["quantized_convolutions"]))
    shown.add_row("quantized multiply-adds in INT8", "-" if share is None else f"{100 * share:.1f} %")
    if built.saturates and results["quantized_convolutions"]:
        shown.add_row("this processor's 8-bit sums saturate", "guarded against")
    if built.split:
        shown.add_row("layers split in two to be exact", str(len(built.split)))
    if dataset is not None:
        found = score_engine(predictor, args.model, floating, dataset, config, run=run)
        results |= found
        shown.add_row("mAP50-95 engine", number(found["map_engine"]))
        if found["drop"] is not None:
            shown.add_row("mAP50-95 float", number(found["map_float"]))
            shown.add_row("drop, 95 % interval", f"{found['drop']:+.4f} {interval(found['drop_ci95'])}")
    inputs = {"model": path_key(args.model), "data": options.dataset_input(dataset)}
    settings = {"engine": args.engine, "evaluation": to_dict(config) if dataset is not None else None}
    next_line = f"yoloqat bench {args.model} {directory}"
    return Outcome(settings, results, inputs, [shown], [OPENVINO], [next_line])


COMMAND = Command("build", __doc__ or "", _arguments, _run)
