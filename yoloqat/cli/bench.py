"""Time several models in one run, interleaved.

Models: .pt and .safetensors run in torch, .onnx in ONNX Runtime, OpenVINO directories (of yoloqat or Ultralytics) in
OpenVINO, .engine files in TensorRT. All take the same images, batch and thread count, in turn, on as many cores as
threads, so that heat and neighbours slow them alike. --mode throughput lets engines that can hold several requests in
flight; the latency is then that of one request among them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from yoloqat.cli import options
from yoloqat.cli.command import Command, Outcome
from yoloqat.cli.fields import add_field
from yoloqat.engines.latency import MODES
from yoloqat.pipeline.bench import BenchConfig, bench_models
from yoloqat.pipeline.run import Run


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL", help="what to time")
    options.add_imgsz(parser, "side of the square images, or their height and width (default: the models' own)")
    add_field(parser, BenchConfig, "batch", "images per call")
    add_field(
        parser,
        BenchConfig,
        "mode",
        "one call at a time, or as many at once as the engine holds best",
        choices=list(MODES),
    )
    parser.add_argument(
        "--cache-dir", type=Path, metavar="DIR", help="where OpenVINO keeps compiled models (default: nowhere)"
    )
    add_field(parser, BenchConfig, "rounds", "timed calls of each model")
    add_field(parser, BenchConfig, "warmup", "untimed calls of each first")


def _run(args: argparse.Namespace, run: Run) -> Outcome:
    config = BenchConfig(
        imgsz=args.imgsz,
        batch=args.batch,
        mode=args.mode,
        rounds=args.rounds,
        warmup=args.warmup,
        cache_dir=args.cache_dir,
    )
    found = bench_models(args.models, config, run=run)
    settings = {
        "imgsz": found.imgsz,
        "batch": args.batch,
        "rounds": args.rounds,
        "warmup": args.warmup,
        "mode": args.mode,
        "cache_dir": None if args.cache_dir is None else str(args.cache_dir),
    }
    return Outcome(settings, found.to_dict(), found.inputs, found.tables)


COMMAND = Command("bench", __doc__ or "", _arguments, _run)
