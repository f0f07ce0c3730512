"""The story of INT8, offline, on a small detector that yoloqat brings along.

A careless method loses mAP; the noise budget says where; the least noisy method, refined, does not lose it; and the engine is
faster than float. Takes about a minute on two cores; the files it makes are like those of your own model.
"""

from __future__ import annotations

import argparse
from typing import Any

from yoloqat.cli.command import Command, Outcome
from yoloqat.config import MethodSpec
from yoloqat.config.recipe import NAME
from yoloqat.pipeline.demo import CARELESS_FOLDER, demo
from yoloqat.pipeline.run import Run
from yoloqat.pipeline.tables import percent
from yoloqat.results import Table, counted, interval, number, signed

LINES = ("yoloqat quantize YOUR.pt --data YOUR.yaml", "yoloqat compare YOUR.pt --images PHOTOS")
"""The same with one's own model, as `next:` lines show it; and a first look without labels."""
FILES = ("demo.pt", CARELESS_FOLDER, "model.safetensors", "model.onnx", "model_openvino", NAME)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--imgsz", type=int, default=320, metavar="N", help="side of the images (default: 320)")
    parser.add_argument("--batch", type=int, default=8, metavar="N", help="images per forward of torch (default: 8)")


def _run(args: argparse.Namespace, run: Run) -> Outcome:
    results = demo(run, imgsz=args.imgsz, batch=args.batch)
    size = f"batch 1, {args.imgsz} px, {counted(run.threads, 'thread')}"
    return Outcome(
        {"imgsz": args.imgsz, "batch": args.batch},
        results,
        {},
        [_story(results, size)],
        FILES,
        LINES,
        notes=[_where(run)],
    )


def _story(results: dict[str, Any], size: str) -> Table:
    (careless,) = results["careless"]
    first = results["budget"]["items"][:3]
    share = sum(item["share"] for item in first)
    times = {item["artifact"]: item["latency_ms"]["p50"] for item in results["bench"]["items"]}
    fast = times[results["chosen"]]
    name = str(MethodSpec(careless["method"], **careless["params"]))
    method = " + ".join([results["method"], *(row["step"] for row in results["refine"][1:] if row["accepted"])])
    rows = (
        ("1. the float model", f"mAP50-95 {number(results['map_float'])}"),
        (f"2. careless INT8: {name}", _loss(careless)),
        ("3. its noise budget", f"{percent(share)} of the noise is from {', '.join(item['name'] for item in first)}"),
        (f"4. with care: {method}", _loss(results)),
        ("5. the verdict", f"drop within {results['verdict']['limit']:g}: {results['verdict']['verdict']}"),
        ("6. the INT8 engine", f"{fast:.2f} ms, float {times['float']:.2f} ms: {times['float'] / fast:.2f} x ({size})"),
    )
    return Table("INT8 in six lines", ("what", "measured"), rows, left=(1,))


def _loss(row: dict[str, Any]) -> str:
    return (
        f"mAP50-95 {number(row['map50_95'])}, drop {signed(row['drop'])} {interval(row['drop_ci95'])}, d {row['d']:.3f}"
    )


def _where(run: Run) -> str:
    return f"all of it, with pictures: {run.out / 'report.html'}"


COMMAND = Command("demo", __doc__ or "", _arguments, _run, files=FILES)
