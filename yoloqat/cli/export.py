"""Export a calibrated model to QDQ ONNX.

Writes DIR/model.onnx: 8-bit weights, one Q/DQ pair per quantized tensor, Ultralytics' metadata, so that YOLO("model.onnx")
loads it. A float .pt is exported as plain float ONNX, to compare with. --half writes FP16 where nothing is quantized, for
engines without precision flags (TensorRT 11). The file is linted; an error ends with code 1. With --data it is compared with the
torch model: node by node on real images, and by mAP beside the thread noise.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from yoloqat.cli import build, options
from yoloqat.cli.command import Command, Outcome
from yoloqat.cli.next_line import next_line
from yoloqat.cli.terminal import interval, number, table
from yoloqat.config import ExportConfig, to_dict
from yoloqat.config.sizes import sides, size_text
from yoloqat.detectors import Detector, load_detector
from yoloqat.pipeline.export import check_parity_images, export_onnx, lint_export, verify_export
from yoloqat.pipeline.models import check_scoring
from yoloqat.pipeline.run import Run

ONNX = "model.onnx"
MAX_STEPS, MAX_FLIP_SHARE = 1, 0.001
MAX_FLIP_SHARE_HALF = 0.05
"""With FP16, whose 11 digits put a value of code 100 up to a twentieth of a step elsewhere."""


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="yoloqat checkpoint, or a float .pt")
    parser.add_argument("--opset", type=int, default=19, metavar="N", help="ONNX operator set (default: 19)")
    parser.add_argument("--dynamic", action="store_true", help="leave the batch size open (not the image size)")
    parser.add_argument("--half", action="store_true", help="FP16 where nothing is quantized; images and outputs FP32")
    parser.add_argument(
        "--nms", action="store_true", help="suppress boxes in the graph: 300 detections per image come out"
    )
    parser.add_argument(
        "--nms-conf", type=float, default=0.001, metavar="F", help="with --nms, scores to exceed (default: 0.001)"
    )
    options.add_data(parser)
    options.add_evaluation(parser)
    parser.set_defaults(batch=1)


def _run(args: argparse.Namespace, run: Run) -> Outcome:
    detector = load_detector(args.model)
    dataset = options.dataset(args)
    config = options.eval_config(args, detector.imgsz)
    export = ExportConfig(
        imgsz=config.imgsz,
        batch=config.batch,
        opset=args.opset,
        dynamic=args.dynamic,
        half=args.half,
        nms=args.nms,
        nms_conf=args.nms_conf,
        nms_iou=config.nms_iou,
        max_det=config.max_det,
    )
    check_scoring(replace(detector.info, imgsz=sides(config.imgsz)), dataset, config)
    if dataset is not None:
        check_parity_images(dataset, config.batch)
    path = run.out / ONNX
    report = export_onnx(detector, path, export)
    lint = lint_export(path)
    results = {
        "quantized_convolutions": report.quantized_convolutions,
        "convolutions": report.convolutions,
        "shared_quantizers": report.aliases,
        **lint,
    }
    shown = table(f"{path}, opset {args.opset}, batch {config.batch}, {size_text(config.imgsz)} px", "check", "value")
    shown.add_row("quantized convolutions", f"{report.quantized_convolutions} of {report.convolutions}")
    errors = lint["lint"]["errors"]
    shown.add_row("lint", f"{errors} errors, {lint['lint']['warnings']} warnings")
    affine = detector.quantization is not None and not detector.quantization.config.activations.symmetric
    if affine:
        shown.add_row("TensorRT", "takes no zero-points: build with --engine openvino")
    failed = None  # the lint reads for TensorRT, which a file with zero-points is not for
    if errors and not affine:
        failed = f"lint found {errors} errors in '{path}'; see 'lint_findings' in result.json"
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
        share = MAX_FLIP_SHARE_HALF if export.half else MAX_FLIP_SHARE
        if found["node_max_steps"] > MAX_STEPS or found["node_flip_share_worst"] > share:
            failed = (
                f"codes differ by up to {found['node_max_steps']} steps and on {100 * found['node_flip_share_worst']:.3f} % of "
                f"a tensor; expected at most {MAX_STEPS} step and {100 * share} %; see 'nodes' in result.json"
            )
    settings = {"evaluation": to_dict(config), "export": to_dict(export)}
    inputs = {"model": options.model_input(detector), "data": options.dataset_input(dataset)}
    lines = [next_line(args, build.COMMAND, path, without=("batch",))]  # the engine's batch is the file's
    return Outcome(settings, results, inputs, [shown], [ONNX], lines, failed)


def lines_after(args: argparse.Namespace, detector: Detector, checkpoint: Path) -> list[str]:
    """Return the line that exports a checkpoint that a command has just written; none where no engine runs its bits."""
    config = None if detector.quantization is None else detector.quantization.config
    if config is not None and {config.activations.bits, config.weights.bits} != {8}:
        return []
    return [next_line(args, COMMAND, checkpoint, without=("batch",))]  # its batch would be the file's


COMMAND = Command("export", __doc__ or "", _arguments, _run, files=(ONNX,))
