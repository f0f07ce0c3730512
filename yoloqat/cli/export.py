"""Export a calibrated model to QDQ ONNX.

Writes DIR/model.onnx: 8-bit weights, one Q/DQ pair per quantized tensor, Ultralytics' metadata, so that YOLO("model.onnx")
loads it. A float .pt is exported as plain float ONNX, to compare with. With --data the file is compared with the torch
model: node by node on real images, and by mAP beside the thread noise.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from yoloqat.cli import options
from yoloqat.cli.command import Command, Outcome
from yoloqat.cli.terminal import interval, number, table
from yoloqat.config import to_dict
from yoloqat.config.checks import check_int
from yoloqat.detectors import load_detector
from yoloqat.pipeline.export import check_parity_images, export_onnx, verify_export
from yoloqat.pipeline.models import check_scoring
from yoloqat.pipeline.run import Run

ONNX = "model.onnx"
MAX_STEPS, MAX_FLIP_SHARE = 1, 0.001


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="yoloqat checkpoint, or a float .pt")
    parser.add_argument("--opset", type=int, default=19, metavar="N", help="ONNX operator set (default: 19)")
    options.add_data(parser, required=False)
    options.add_evaluation(parser)
    parser.set_defaults(batch=1)


def _run(args: argparse.Namespace, run: Run) -> Outcome:
    check_int("opset", args.opset, 13, 23)
    detector = load_detector(args.model)
    dataset = options.dataset(args)
    config = options.eval_config(args, detector.imgsz)
    check_scoring(replace(detector.info, imgsz=(config.imgsz, config.imgsz)), dataset, config)
    if dataset is not None:
        check_parity_images(dataset, config.batch)
    path = run.out / ONNX
    report = export_onnx(detector, path, imgsz=config.imgsz, batch=config.batch, opset=args.opset)
    results = {
        "quantized_convolutions": report.quantized_convolutions,
        "convolutions": report.convolutions,
        "shared_quantizers": report.aliases,
    }
    shown = table(f"{path}, opset {args.opset}, batch {config.batch}, {config.imgsz} px", "check", "value")
    shown.add_row("quantized convolutions", f"{report.quantized_convolutions} of {report.convolutions}")
    failed = None
    if dataset is not None and detector.quantization is not None:
        found = verify_export(detector, path, dataset, config, run=run, batch=config.batch)
        results |= found
        shown.add_row("largest code difference in steps, node by node", f"{found['node_max_steps']}")
        shown.add_row("codes that differ, node by node", f"{100 * found['node_flip_share']:.4f} %")
        shown.add_row("mAP50-95 QFloat", number(found["map_qfloat"]))
        shown.add_row("mAP50-95 ONNX Runtime", number(found["map_onnx"]))
        shown.add_row(
            "difference, 95 % interval", f"{found['map_difference']:+.4f} {interval(found['map_difference_ci95'])}"
        )
        counts = " and ".join(str(count) for count in found["thread_counts"])
        shown.add_row(f"thread noise (threads {counts})", number(found["thread_noise"]))
        if found["node_max_steps"] > MAX_STEPS or found["node_flip_share_worst"] > MAX_FLIP_SHARE:
            failed = (
                f"codes differ by up to {found['node_max_steps']} steps and on {100 * found['node_flip_share_worst']:.3f} % of "
                f"a tensor; expected at most {MAX_STEPS} step and {100 * MAX_FLIP_SHARE} %; see 'nodes' in result.json"
            )
    settings = {"evaluation": to_dict(config), "opset": args.opset}
    inputs = {"model": options.model_input(detector), "data": options.dataset_input(dataset)}
    next_line = f"yoloqat build {path}" + (f" --data {args.data}" if args.data else "")
    return Outcome(settings, results, inputs, [shown], [ONNX], [next_line], failed)


COMMAND = Command("export", __doc__ or "", _arguments, _run)
