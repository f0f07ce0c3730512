"""The whole way, offline, on a small detector that yoloqat brings along.

Compares calibration methods, calibrates by the best, exports QDQ ONNX, builds an INT8 OpenVINO engine, scores it and times it
against float. Takes a few minutes on two cores; the files it makes are like those of your own model.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from yoloqat.cli.command import Command, Outcome
from yoloqat.config import MethodSpec
from yoloqat.pipeline.demo import demo
from yoloqat.pipeline.run import Run
from yoloqat.results import Table, counted, interval, number, signed

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
    compared, columns = results["compare"], ("method", "mAP50-95", "drop", "95 % interval")
    float_row = ("float", number(compared["baseline"]["map50_95"]), "-", "-")
    easy = (float_row, *_methods(compared["methods"], results["method"]))
    built = results["build"]
    models = (
        ("float", number(results["map_float"])),
        ("QFloat (fake-quantized)", number(results["map_qfloat"])),
        ("INT8 engine", number(results["map_engine"])),
        ("float minus engine", f"{signed(results['drop'])} {interval(results['drop_ci95'])}"),
        ("convolutions in INT8", f"{built['int8_convolutions']} of {built['convolutions']}"),
    )
    times = [(item, item["latency_ms"]) for item in results["bench"]["items"]]
    speed = tuple(
        (item["artifact"], f"{ms['p50']:.2f}", f"{ms['p95']:.2f}", f"{item['images_per_second']:.0f}")
        for item, ms in times
    )
    tables = [
        Table("calibration methods, 8 bits", columns, easy),
        Table("the same at 6 bits, where a careless method shows", columns, _methods(results["careless"])),
        Table(f"three models, calibrated by {results['method']}", ("model", "mAP50-95"), models),
        Table(
            f"batch 1, {args.imgsz} px, {counted(run.threads, 'thread')}",
            ("model", "p50 ms", "p95 ms", "images/s"),
            speed,
        ),
    ]
    return Outcome({"imgsz": args.imgsz, "batch": args.batch}, results, {}, tables, FILES, LINES)


def _methods(rows: Sequence[dict[str, Any]], chosen: str = "") -> tuple[tuple[str, ...], ...]:
    named = [(str(MethodSpec(row["method"], **row["params"])), row) for row in rows]
    return tuple(
        (
            f"{name} (chosen)" if name == chosen else name,
            number(row["map50_95"]),
            signed(row["drop"]),
            interval(row["drop_ci95"]),
        )
        for name, row in named
    )


COMMAND = Command("demo", __doc__ or "", _arguments, _run, files=FILES)
