"""The whole way, offline, on a small detector that yoloqat brings along.

Compares calibration methods, calibrates by the best, exports QDQ ONNX, builds an INT8 OpenVINO engine, scores it and times it
against float. Takes a few minutes on two cores; the files it makes are like those of your own model.
"""

from __future__ import annotations

import argparse

from yoloqat.cli.command import Command, Outcome
from yoloqat.cli.terminal import interval, number, table
from yoloqat.config import MethodSpec
from yoloqat.pipeline.demo import demo
from yoloqat.pipeline.run import Run

LINES = (
    "yoloqat compare YOUR.pt --data YOUR.yaml",
    "yoloqat calibrate YOUR.pt --data YOUR.yaml --method BEST --out runs/calibrate",
    "yoloqat export runs/calibrate/model.safetensors --data YOUR.yaml --out runs/export",
    "yoloqat build runs/export/model.onnx --data YOUR.yaml",
)
"""The same with one's own model, as `next:` lines show it."""
FILES = ("demo.pt", "model.safetensors", "model.onnx", "model_openvino", "float.onnx", "float_openvino")


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--imgsz", type=int, default=320, metavar="N", help="side of the images (default: 320)")
    parser.add_argument("--batch", type=int, default=8, metavar="N", help="images per forward of torch (default: 8)")


def _run(args: argparse.Namespace, run: Run) -> Outcome:
    results = demo(run, imgsz=args.imgsz, batch=args.batch)
    compared = results["compare"]
    methods = table("calibration methods, 8 bits", "method", "mAP50-95", "drop", "95 % interval")
    methods.add_row("float", number(compared["baseline"]["map50_95"]), "-", "-")
    for row in compared["methods"]:
        name = str(MethodSpec(row["method"], **row["params"]))
        mark = " (chosen)" if name == results["method"] else ""
        methods.add_row(name + mark, number(row["map50_95"]), f"{row['drop']:+.4f}", interval(row["drop_ci95"]))
    hard = table("the same at 6 bits, where a careless method shows", "method", "mAP50-95", "drop", "95 % interval")
    for row in results["careless"]:
        name = str(MethodSpec(row["method"], **row["params"]))
        hard.add_row(name, number(row["map50_95"]), f"{row['drop']:+.4f}", interval(row["drop_ci95"]))
    models = table(f"three models, calibrated by {results['method']}", "model", "mAP50-95")
    models.add_row("float", number(results["map_float"]))
    models.add_row("QFloat (fake-quantized)", number(results["map_qfloat"]))
    models.add_row("INT8 engine", number(results["map_engine"]))
    models.add_row("float minus engine", f"{results['drop']:+.4f} {interval(results['drop_ci95'])}")
    built = results["build"]
    models.add_row("convolutions in INT8", f"{built['int8_convolutions']} of {built['convolutions']}")
    speed = table(f"batch 1, {args.imgsz} px, {run.threads} threads", "model", "p50 ms", "p95 ms", "images/s")
    for item in results["bench"]["items"]:
        latency = item["latency_ms"]
        speed.add_row(
            item["artifact"], f"{latency['p50']:.2f}", f"{latency['p95']:.2f}", f"{item['images_per_second']:.0f}"
        )
    return Outcome(
        {"imgsz": args.imgsz, "batch": args.batch}, results, {}, [methods, hard, models, speed], FILES, LINES
    )


COMMAND = Command("demo", __doc__ or "", _arguments, _run, files=FILES)
